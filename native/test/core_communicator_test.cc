// Communicators over the emulated libraries, without Node.
#include <string_view>
#include <thread>

#include "core/limited.h"
#include "core/stray_roots.h"
#include "core_ranks.h"

namespace weightcast {
namespace {

void two_ranks_sum_broadcast_and_leave_again_and_again() {
  const auto runtime = open();
  for (int round = 0; round < 5; ++round) {
    Rank first(runtime), second(runtime);
    const auto id = runtime->unique_id();
    auto other = std::async(std::launch::async, [&] {
      CORE_CHECK(second.init({id, 2, 1}).index() == 0);
      return outcome<std::vector<float>>([&](Done<std::vector<float>> done) {
        second.communicator.all_reduce({2}, kLong, std::move(done));
      });
    });
    CORE_CHECK(first.init({id, 2, 0}).index() == 0);
    const auto sum = outcome<std::vector<float>>(
        [&](Done<std::vector<float>> done) { first.communicator.all_reduce({1}, kLong, std::move(done)); });
    CORE_CHECK(std::get<0>(sum).at(0) == 3 && std::get<0>(other.get()).at(0) == 3);
    if (round % 2 == 0) second.abort();
    first.destroy(1'000);
    second.destroy(1'000);
    CORE_CHECK(first.communicator.state() == State::closed);
    CORE_CHECK(first.thread->wait_stopped(Deadline::after(kLong)));
  }
}

void an_unfinished_broadcast_is_interrupted_by_the_deadline_of_a_destroy() {
  const auto runtime = open();
  Rank first(runtime), second(runtime);
  const auto id = runtime->unique_id();
  auto other = std::async(std::launch::async, [&] { return second.init({id, 2, 1}); });
  CORE_CHECK(first.init({id, 2, 0}).index() == 0 && other.get().index() == 0);
  const std::uint64_t bytes = 64 << 20;
  const auto buffer = std::get<0>(first.allocate(bytes));
  auto sending = std::async(std::launch::async, [&] { return first.broadcast(buffer, bytes, 600'000); });
  first.destroy(100);
  // Where the destroy came first the broadcast finds a communicator that is closed.
  const auto ended = sending.get();
  CORE_CHECK(failed_with(ended, code::kNcclAborted) || failed_with(ended, code::kClosed));
  second.abort();
}

void a_free_that_hangs_is_given_up_at_the_call_limit() {
  Rank rank(open(400));
  const auto buffer = std::get<0>(rank.allocate(4096));
  outcome<Unit>([&](Done<Unit> done) { rank.communicator.free(buffer, std::move(done)); });
  CORE_CHECK(rank.communicator.state() == State::failed);
  const auto refused = rank.allocate(1);
  CORE_CHECK(failed_with(refused, code::kStuck));
  CORE_CHECK(std::string_view(std::get<1>(refused).what()).starts_with("cuMemFree has not returned for"));
  rank.abort();
  rank.destroy(100);
  CORE_CHECK(!rank.thread->wait_stopped(Deadline::after(kLong)));
}

void a_broadcast_that_hangs_is_given_up_at_its_deadline_with_all_that_waits_behind_it() {
  const auto runtime = open();
  Rank rank(runtime);
  CORE_CHECK(rank.init({runtime->unique_id(), 1, 0}).index() == 0);
  const auto buffer = std::get<0>(rank.allocate(4096));
  std::promise<Outcome<BufferId>> behind;
  auto waits = std::async(std::launch::async, [&] { return rank.broadcast(buffer, 4096, 200); });
  rank.communicator.allocate(16, [&](Outcome<BufferId> value) { behind.set_value(std::move(value)); });
  CORE_CHECK(failed_with(waits.get(), code::kStuck));
  const auto later = behind.get_future().get();
  CORE_CHECK(later.index() == 0 || failed_with(later, code::kStuck));  // it may have come first
  rank.destroy(100);
}

void an_init_that_hangs_is_given_up_while_its_library_is_asked() {
  Crew helpers;
  const auto stuck = outcome<int>(
      [&](Done<int> done) { run_limited<int>(helpers, 200, [] { return open(), 0; }, std::move(done)); });
  CORE_CHECK(failed_with(stuck, code::kStuck));
  CORE_CHECK(std::string_view(std::get<1>(stuck).what()).starts_with("cuInit has not returned for 200 ms"));
}

void a_copy_to_memory_that_may_be_gone_ends_with_the_stop() {
  Interrupt interrupt;
  DeviceSession session(open(), 0, interrupt);
  const std::size_t bytes = 16 << 20;
  const auto memory = make_device_memory(session.cuda(), bytes);
  int pieces = 0;
  const auto read = capture<Unit>([&] {
    session.read(memory.get(), bytes, [&](const void*, std::size_t) {
      ++pieces;
      session.drain_copies();  // the next piece is there: only the stop can keep it from being touched
      interrupt.stop = true;
    });
    return Unit{};
  });
  CORE_CHECK(failed_with(read, code::kClosed) && pieces == 1);
  const auto write = capture<Unit>([&] { return session.write(memory.get(), nullptr, bytes), Unit{}; });
  CORE_CHECK(failed_with(write, code::kClosed));  // and nullptr was not read
}

void a_failed_init_leaves_its_thread_outside_of_any_group() {
  const auto runtime = open();
  Interrupt interrupt;
  DeviceSession session(runtime, 0, interrupt);
  NcclGroup group(session);
  const auto joined = capture<Unit>([&] {
    group.join({runtime->unique_id(), 1, 0}, {"communicator init", Deadline::after(kLong), nullptr});
    return Unit{};
  });
  CORE_CHECK(failed_with(joined, code::kNcclFailed));
  CORE_CHECK(runtime->nccl().group_end() == nccl::kInvalidUsage);  // "not in a group call"
}

void the_environment_counts_as_it_was_when_somebody_asked() {
  const auto before = Variables::now();
  setenv("NCCL_COMM_ID", "127.0.0.1:5000", 1);
  const auto refused = [](const Variables& variables) {
    const auto opened = capture<std::shared_ptr<const Runtime>>([&] {
      return Runtime::open({EMULATED_CUDA_LIBRARY, EMULATED_NCCL_LIBRARY, variables});
    });
    return failed_with(opened, code::kConfig);
  };
  CORE_CHECK(!refused(before));
  const auto after = Variables::now();
  unsetenv("NCCL_COMM_ID");
  CORE_CHECK(refused(after));
}

void ids_that_nobody_joins_are_limited() {
  const auto runtime = open();
  std::thread([] {}).join();  // the first thread of a process brings a sanitizer's own
  std::size_t made = 0;
  try {
    for (; made <= StrayRoots::kMost; ++made) runtime->unique_id();
  } catch (const Error& error) {
    CORE_CHECK(error.is(code::kLimit));
  }
  CORE_CHECK(made == StrayRoots::kMost);
}

constexpr Test kTests[] = {
    {"", two_ranks_sum_broadcast_and_leave_again_and_again},
    {"", an_unfinished_broadcast_is_interrupted_by_the_deadline_of_a_destroy},
    {"hang=cuMemFree", a_free_that_hangs_is_given_up_at_the_call_limit},
    {"hang=ncclBroadcast", a_broadcast_that_hangs_is_given_up_at_its_deadline_with_all_that_waits_behind_it},
    {"hang=cuInit", an_init_that_hangs_is_given_up_while_its_library_is_asked},
    {"", a_copy_to_memory_that_may_be_gone_ends_with_the_stop},
    {"driver-too-old,group-depth-leak", a_failed_init_leaves_its_thread_outside_of_any_group},
    {"", the_environment_counts_as_it_was_when_somebody_asked},
    {"", ids_that_nobody_joins_are_limited},
};

}  // namespace
}  // namespace weightcast

int main(int count, char** arguments) { return weightcast::run_each(weightcast::kTests, count, arguments); }
