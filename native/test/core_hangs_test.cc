// Copies and reads that never end: whoever waits is told by his deadline, an abort is felt at once, and memory is freed
// when nobody touches it any more.
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "core_ranks.h"
#include "temporary_file.h"

namespace {
constexpr int kAll = 1'000'000;
std::atomic<int> reads_that_return{kAll};
std::atomic<unsigned> opening_takes_us{0};
}  // namespace

/// In place of the C library's: a file system that does not answer.
extern "C" ssize_t pread(int file, void* target, std::size_t bytes, off_t offset) {
  for (int left = reads_that_return; left <= 0 || !reads_that_return.compare_exchange_weak(left, left - 1);
       left = reads_that_return) {
    ::usleep(1'000);
  }
  return ::syscall(SYS_pread64, file, target, bytes, offset);
}

/// Likewise: one that answers slowly.
extern "C" int fstat(int file, struct stat* status) noexcept {
  if (opening_takes_us > 0) ::usleep(opening_takes_us);
  return int(::syscall(SYS_fstat, file, status));
}

namespace weightcast {
namespace {

/// The libraries' own limit is out of reach.
constexpr double kVeryLong = 600'000;

Plan zeros(std::uint64_t bytes, std::uint64_t piece_bytes) {
  return {.files = {},
          .file_sizes = {},
          .ranges = {{RangeKind::host, 0, 0, bytes}},
          .frame_ranges = {1},
          .device_buffers = {},
          .host_bytes = std::vector<std::uint8_t>(bytes),
          .staging = {2, bytes, 2, piece_bytes},
          .root = 0};
}

constexpr std::uint64_t kFileBytes = 100'000;

class Source {
 public:
  Plan plan() const {
    auto plan = zeros(0, kFileBytes);
    plan.files = {path_};
    plan.file_sizes = {kFileBytes};
    plan.ranges = {{RangeKind::file, 0, 0, kFileBytes}};
    plan.staging.slot_bytes = kFileBytes;
    return plan;
  }

 private:
  TemporaryFolder folder_;
  const std::string path_ = folder_.put("source", Content(kFileBytes));
};

/// Prepares until it works; fails the test when it never does.
void expect_prepared_some_time(Rank& rank, const Plan& plan) {
  const auto deadline = Deadline::after(kLong);
  while (rank.prepare(plan, kLong).index() != 0) {
    CORE_CHECK(!deadline.passed());
    ::usleep(1'000);
  }
}

void a_copy_that_hangs_ends_a_staging_at_its_deadline() {
  Rank rank(open(kVeryLong));
  for (const auto bytes : {4'096, 5 * 4'096}) {  // one piece, and more than there are
    const auto staged = rank.prepare(zeros(bytes, 4'096), 1'000);
    CORE_CHECK(failed_with(staged, code::kStuck));
    CORE_CHECK(std::get<1>(staged).what() == std::string("a copy on device 0 did not end within 1000 ms"));
  }
  CORE_CHECK(rank.allocate(16).index() == 0);
  rank.destroy(100);
}

void an_abort_ends_a_write_that_hangs() {
  Rank rank(open(kVeryLong));
  const auto buffer = std::get<0>(rank.allocate(4'096));
  const std::vector<char> bytes(4'096);
  std::promise<Outcome<Unit>> written;
  rank.communicator.write(buffer, 0, bytes.data(), bytes.size(),
                          [&](Outcome<Unit> value) { written.set_value(std::move(value)); });
  rank.abort();
  CORE_CHECK(failed_with(written.get_future().get(), code::kNcclAborted));
  rank.destroy(100);
}

void an_abort_ends_a_staging_whose_copy_hangs() {
  Rank rank(open(kVeryLong));
  std::promise<Outcome<Prepared>> staged;
  rank.communicator.prepare(zeros(4'096, 4'096), kVeryLong,
                            [&](Outcome<Prepared> value) { staged.set_value(std::move(value)); });
  rank.abort();
  CORE_CHECK(failed_with(staged.get_future().get(), code::kNcclAborted));
  CORE_CHECK(rank.communicator.state() == State::aborted);
  rank.destroy(100);
}

void buffers_can_be_read_after_an_abort() {
  Rank rank(open());
  const auto buffer = std::get<0>(rank.allocate(4));
  rank.abort();
  CORE_CHECK(rank.write(buffer, "abc", 4).index() == 0);
  char bytes[4] = {};
  CORE_CHECK(outcome<Unit>([&](Done<Unit> done) {
               rank.communicator.read(buffer, 0, bytes, 4, std::move(done));
             }).index() == 0);
  CORE_CHECK(std::string_view(bytes) == "abc");
}

void what_waits_behind_a_copy_that_hangs_ends_at_its_own_deadline() {
  const auto runtime = open(kVeryLong);
  Rank rank(runtime);
  CORE_CHECK(rank.init({runtime->unique_id(), 1, 0}).index() == 0);
  const auto buffer = std::get<0>(rank.allocate(4'096));
  const std::vector<char> bytes(4'096);
  std::promise<Outcome<Unit>> written;
  rank.communicator.write(buffer, 0, bytes.data(), bytes.size(),
                          [&](Outcome<Unit> value) { written.set_value(std::move(value)); });
  CORE_CHECK(failed_with(rank.broadcast(buffer, 4'096, 100), code::kNcclTimeout));
  CORE_CHECK(rank.communicator.state() == State::ready);  // it was never begun
  const auto asked =
      outcome<int>([&](Done<int> done) { rank.communicator.async_error(100, std::move(done)); });
  CORE_CHECK(failed_with(asked, code::kNcclTimeout));
  rank.destroy(100);
  CORE_CHECK(failed_with(written.get_future().get(), code::kClosed));
}

void a_destroy_is_late_by_a_second_at_most_when_the_abort_hangs() {
  const auto runtime = open(kVeryLong);
  double quickest = kVeryLong;
  for (int attempt = 0; attempt < 3 && quickest > 1'100; ++attempt) {  // a busy machine adds to it
    Rank rank(runtime);
    std::promise<Outcome<Unit>> joined;
    rank.communicator.init({runtime->unique_id(), 2, 0}, kVeryLong,
                           [&](Outcome<Unit> value) { joined.set_value(std::move(value)); });
    const auto start = Clock::now();
    rank.destroy(100);
    quickest = std::min(quickest, milliseconds_since(start));
    CORE_CHECK(joined.get_future().get().index() == 1);
  }
  CORE_CHECK(quickest <= 1'100);
}

void staging_under_a_read_that_hangs_is_freed_when_it_returns() {
  const auto runtime = open(kVeryLong);
  const Source file;
  reads_that_return = 0;
  {
    Rank rank(runtime);
    CORE_CHECK(failed_with(rank.prepare(file.plan(), 100), code::kFileRead));
    // The device has room for one staging.
    CORE_CHECK(failed_with(rank.prepare(file.plan(), kLong), code::kCudaOutOfMemory));
    rank.destroy(kLong);
  }
  Rank rank(runtime);
  CORE_CHECK(failed_with(rank.prepare(file.plan(), kLong), code::kCudaOutOfMemory));
  reads_that_return = kAll;
  expect_prepared_some_time(rank, file.plan());
  rank.destroy(kLong);
}

void files_that_open_slowly_end_a_staging_at_its_deadline() {
  Rank rank(open(kVeryLong));
  const Source file;
  CORE_CHECK(rank.prepare(file.plan(), kLong).index() == 0);
  auto many = file.plan();
  many.files.assign(200, many.files.front());
  many.file_sizes.assign(200, kFileBytes);
  opening_takes_us = 10'000;
  const auto staged = rank.prepare(many, 100);
  CORE_CHECK(failed_with(staged, code::kFileRead));
  CORE_CHECK(std::get<1>(staged).what() == std::string("opening the files took longer than 100 ms"));
}

void staging_that_hangs_is_limited() {
  const auto runtime = open(kVeryLong);
  const Source file;
  reads_that_return = 0;
  for (int i = 0; i < 4; ++i) {
    Rank rank(runtime);
    CORE_CHECK(failed_with(rank.prepare(file.plan(), 50), code::kFileRead));
  }
  Rank rank(runtime);
  CORE_CHECK(failed_with(rank.prepare(file.plan(), kLong), code::kLimit));
  reads_that_return = kAll;
  expect_prepared_some_time(rank, file.plan());
}

void a_read_that_hangs_while_nothing_is_under_way_is_not_told_as_a_rank_that_is_late() {
  const auto runtime = open(kVeryLong);
  Rank rank(runtime);
  CORE_CHECK(rank.init({runtime->unique_id(), 1, 0}).index() == 0);
  const Source file;
  auto plan = file.plan();
  plan.ranges.assign(3, plan.ranges.front());
  plan.frame_ranges = {1, 1, 1};
  reads_that_return = 2;  // as many as there are slots: the third is needed when the first is on its way
  const auto prepared = std::get<0>(rank.prepare(plan, kLong));
  const auto sent = outcome<TransferStats>(
      [&](Done<TransferStats> done) { rank.communicator.run(prepared.id, 300, nullptr, std::move(done)); });
  CORE_CHECK(failed_with(sent, code::kFileRead));
  CORE_CHECK(rank.communicator.state() == State::aborted);
  reads_that_return = kAll;
}

constexpr Test kTests[] = {
    {"hang-in-copy=1", a_copy_that_hangs_ends_a_staging_at_its_deadline},
    {"hang-in-copy=1", an_abort_ends_a_write_that_hangs},
    {"hang-in-copy=1", an_abort_ends_a_staging_whose_copy_hangs},
    {"", buffers_can_be_read_after_an_abort},
    {"hang-in-copy=1", what_waits_behind_a_copy_that_hangs_ends_at_its_own_deadline},
    {"hang=ncclCommAbort", a_destroy_is_late_by_a_second_at_most_when_the_abort_hangs},
    {"out-of-memory=250000", staging_under_a_read_that_hangs_is_freed_when_it_returns},
    {"", files_that_open_slowly_end_a_staging_at_its_deadline},
    {"", staging_that_hangs_is_limited},
    {"", a_read_that_hangs_while_nothing_is_under_way_is_not_told_as_a_rank_that_is_late},
};

}  // namespace
}  // namespace weightcast

int main(int count, char** arguments) { return weightcast::run_each(weightcast::kTests, count, arguments); }
