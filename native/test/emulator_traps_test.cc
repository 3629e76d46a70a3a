// The traps that were measured on the real libraries (contracts/nccl.md sections 2, 4 and 8), behind their
// switches.
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <thread>

#include "emulator_nccl_api.h"

namespace emulator::test {
namespace {

/** Which fault a spawned role has. */
std::vector<std::string> fault(const std::string& name) { return {"WEIGHTCAST_EMULATOR_FAULTS=" + name}; }

ncclComm_t start_init(const Rank& me) {
  auto options = config(0);
  ncclComm_t comm = nullptr;
  CHECK_EQ(CommInitRankConfig(&comm, me.ranks, me.id, me.rank, &options), nccl::kInProgress);
  return comm;
}

/** A use that must not return by itself: watched for a moment, ended by `end`, then awaited. */
template <typename Use, typename End>
void expect_stuck_until(Use use, End end) {
  std::atomic<bool> returned{false};
  std::thread stuck([&] {
    use();
    returned = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  CHECK(!returned);
  end();
  stuck.join();
}

}  // namespace

ROLE(leak_inits) {
  std::thread([] {}).join();  // the first thread of a process brings a sanitizer's own
  const auto files = open_files(), threads = running_threads();
  for (std::size_t i = 1; i <= 5; ++i) {
    // Listener, connection, and its other end at the root; the root's thread and, until it ends, the rank's.
    auto comm = start_init({new_id(), 0, 2});
    eventually("the rank has met its root", [&] { return open_files() >= files + 3 * i; });
    CHECK_EQ(CommAbort(comm), 0);
    eventually("only the root is left", [&] { return running_threads() == threads + i; });
    CHECK_EQ(open_files(), files + 3 * i);
  }
}

CASE(each_aborted_init_leaks_three_files_and_a_thread_as_measured) {
  CHECK_EQ(Process("leak_inits", {}, fault("leak-init")).wait(), 0);
}

ROLE(leak_group_depth_by_destroy) {
  auto comm = joined({new_id(), 0, 1});
  auto pending = start_init({new_id(), 0, 2});
  CHECK_EQ(CommDestroy(pending), nccl::kInvalidArgument);
  // Inside the leaked group a broadcast only queues, and says that all is well.
  char sent = 7, received = 0;
  CHECK_EQ(Broadcast(&sent, &received, 1, nccl::kUint8, 0, comm, nullptr), 0);
  CHECK_EQ(received, 0);
  CHECK_EQ(GroupEnd(), 0);
  CHECK_EQ(received, 7);
  CHECK_EQ(GroupEnd(), nccl::kInvalidUsage);
  CHECK_EQ(CommAbort(pending), 0);
}

CASE(a_refused_destroy_can_leak_the_group_depth_and_later_calls_never_run) {
  CHECK_EQ(Process("leak_group_depth_by_destroy", {}, fault("group-depth-leak")).wait(), 0);
}

ROLE(join_and_sleep) {
  joined(me);
  for (;;) pause();
}

CASE(destroy_with_an_unfinished_broadcast_never_returns_until_abort) {
  const Rank me{new_id(), 0, 2};
  Process peer("join_and_sleep", {me.id, 1, 2});
  auto comm = joined(me);
  peer.kill();
  CHECK_EQ(peer.wait(), 128 + SIGKILL);
  std::vector<unsigned char> large(64 << 20);
  expect_stuck_until(
      [&] { Broadcast(large.data(), large.data(), large.size(), nccl::kUint8, 0, comm, nullptr); },
      [&] { expect_stuck_until([&] { CommDestroy(comm); }, [&] { CHECK_EQ(CommAbort(comm), 0); }); });
}

ROLE(come_late) {
  auto comm = joined(me);
  CHECK_EQ(CommDestroy(comm), 0);
}

CASE(a_missing_peer_keeps_init_in_progress) {
  const Rank me{new_id(), 0, 2};
  Process peer("come_late", {me.id, 1, 2}, fault("missing-peer"));
  auto comm = start_init(me);
  expect_stuck_until([&] { eventually("aborted", [&] { return async_state(comm) != nccl::kInProgress; }); },
                     [&] { peer.kill(), CHECK_EQ(CommFinalize(comm), nccl::kInvalidArgument); });
  CHECK_EQ(CommAbort(comm), 0);
}

CASE(a_late_peer_is_waited_for) {
  const Stopwatch watch;
  with_ranks(
      "come_late", 2,
      [](const Rank& me) {
        auto comm = joined(me);
        CHECK_EQ(CommDestroy(comm), 0);
      },
      fault("init-delay=300"));
  CHECK(watch.seconds() >= 0.3);
}

ROLE(receive_five_megabytes) {
  auto comm = joined(me);
  std::vector<unsigned char> got(5'000'000);
  CHECK_EQ(Broadcast(nullptr, got.data(), got.size(), nccl::kUint8, 0, comm, nullptr), 0);
  CHECK(got == pattern(got.size(), 3));
  CHECK_EQ(CommDestroy(comm), 0);
}

CASE(a_slow_peer_takes_its_time_and_gets_every_byte) {
  const Stopwatch watch;
  with_ranks(
      "receive_five_megabytes", 2,
      [](const Rank& me) {
        auto comm = joined(me);
        auto sent = pattern(5'000'000, 3);
        CHECK_EQ(Broadcast(sent.data(), sent.data(), sent.size(), nccl::kUint8, 0, comm, nullptr), 0);
        CHECK_EQ(CommDestroy(comm), 0);
      },
      fault("slow=20000000"));
  CHECK(watch.seconds() >= 0.25);
}

ROLE(send_two) {
  auto comm = joined(me);
  char byte = 1;
  for (int i = 0; i < 2; ++i) Broadcast(&byte, &byte, 1, nccl::kUint8, me.rank, comm, nullptr);
}

CASE(a_sender_that_dies_before_a_broadcast_gives_the_receiver_a_remote_error) {
  const Rank me{new_id(), 0, 2};
  Process sender("send_two", {me.id, 1, 2}, fault("die-before-broadcast=2"));
  auto comm = joined(me);
  char byte = 0;
  CHECK_EQ(Broadcast(nullptr, &byte, 1, nccl::kUint8, 1, comm, nullptr), 0);
  CHECK_EQ(sender.wait(), 1);
  CHECK_EQ(byte, 1);
  CHECK_EQ(async_state(comm), 0);
  CHECK_EQ(Broadcast(nullptr, &byte, 1, nccl::kUint8, 1, comm, nullptr), nccl::kRemoteError);
  CHECK_EQ(CommAbort(comm), 0);
}

CASE(a_sender_that_dies_after_a_broadcast_has_delivered_it_and_is_not_missed) {
  const Rank me{new_id(), 0, 2};
  Process sender("send_two", {me.id, 1, 2}, fault("die-after-broadcast=1"));
  auto comm = joined(me);
  CHECK_EQ(sender.wait(), 1);
  char byte = 0;
  CHECK_EQ(Broadcast(nullptr, &byte, 1, nccl::kUint8, 1, comm, nullptr), 0);
  CHECK_EQ(byte, 1);
  CHECK_EQ(async_state(comm), 0);
  CHECK_EQ(CommAbort(comm), 0);
}

CUresult allocate(CUdeviceptr* address, std::size_t bytes) {
  return CUDA(cuMemAlloc_v2, CUdeviceptr*, std::size_t)(address, bytes);
}

void use_first_device() {
  CUcontext context = nullptr;
  CHECK_EQ(CUDA(cuInit, unsigned)(0), 0);
  CHECK_EQ(CUDA(cuDevicePrimaryCtxRetain, CUcontext*, int)(&context, 0), 0);
  CHECK_EQ(CUDA(cuCtxSetCurrent, CUcontext)(context), 0);
}

ROLE(hold_a_megabyte) {
  use_first_device();
  CUdeviceptr first = 0, second = 0;
  CHECK_EQ(allocate(&first, 600'000), 0);
  CHECK_EQ(allocate(&second, 600'000), cuda::kOutOfMemory);
  CHECK_EQ(CUDA(cuMemFree_v2, CUdeviceptr)(first), 0);
  CHECK_EQ(allocate(&second, 600'000), 0);
}

CASE(a_device_can_be_out_of_memory) {
  CHECK_EQ(Process("hold_a_megabyte", {}, fault("out-of-memory=1000000")).wait(), 0);
}

ROLE(old_driver) {
  use_first_device();
  auto options = config(0);
  ncclComm_t comm = nullptr;
  CHECK_EQ(CommInitRankConfig(&comm, 1, new_id(), 0, &options), nccl::kUnhandledCudaError);
  CHECK(comm == nullptr);
  CHECK(LastError().find("driver version is insufficient") != std::string::npos);
}

CASE(a_driver_too_old_for_nccl_works_for_everything_else) {
  CHECK_EQ(Process("old_driver", {}, fault("driver-too-old")).wait(), 0);
}

ROLE(without_a_device) {
  const auto alloc =
      reinterpret_cast<int (*)(void**, std::size_t)>(symbol_of(nccl_library(), "ncclMemAlloc"));
  const auto free = reinterpret_cast<int (*)(void*)>(symbol_of(nccl_library(), "ncclMemFree"));
  int version = 0, count = 0;
  void* memory = nullptr;
  char byte = 0;
  ncclComm_t comm = nullptr;
  ncclResult_t state = 0;
  CHECK_EQ(GetVersion(&version), 0);
  new_id();
  CHECK_EQ(GetUniqueId(nullptr), nccl::kInvalidArgument);
  CHECK_EQ(GroupStart(), 0);
  CHECK_EQ(GroupEnd(), 0);
  CHECK_EQ(GroupEnd(), nccl::kInvalidUsage);
  // What is wrong with the arguments is masked by the missing driver.
  CHECK_EQ(CommInitRank(&comm, 2, new_id(), 2), nccl::kUnhandledCudaError);
  CHECK(LastError().find(me.rank == 0 ? "driver version is insufficient" : "no CUDA-capable device") !=
        std::string::npos);
  CHECK_EQ(alloc(&memory, 16), nccl::kUnhandledCudaError);
  CHECK_EQ(free(memory), nccl::kUnhandledCudaError);
  CHECK_EQ(Broadcast(&byte, &byte, 1, nccl::kUint8, 0, nullptr, nullptr), nccl::kInvalidArgument);
  CHECK_EQ(CommDestroy(nullptr), 0);
  CHECK_EQ(CommAbort(nullptr), 0);
  CHECK_EQ(CommFinalize(nullptr), 0);
  CHECK_EQ(CommGetAsyncError(nullptr, &state), nccl::kInvalidArgument);
  CHECK_EQ(CommCount(nullptr, &count), nccl::kInvalidArgument);
}

CASE(without_a_gpu_the_library_answers_as_measured) {
  CHECK_EQ(Process("without_a_device", {{}, 0, 0}, fault("no-driver")).wait(), 0);
  CHECK_EQ(Process("without_a_device", {{}, 1, 0}, fault("no-device")).wait(), 0);
}

ROLE(broadcast_float8) {
  auto comm = joined({new_id(), 0, 1});
  char byte = 0;
  CHECK_EQ(Broadcast(&byte, &byte, 1, nccl::kFloat8e4m3, 0, comm, nullptr), me.rank);
  CHECK_EQ(Broadcast(&byte, &byte, 1, nccl::kUint8, 0, comm, nullptr), 0);
}

CASE(float8_is_a_type_from_2_24_on) {
  // The rank carries the expected code.
  const auto version = [](const char* number) {
    return std::vector<std::string>{std::string("WEIGHTCAST_EMULATOR_NCCL_VERSION=") + number};
  };
  CHECK_EQ(Process("broadcast_float8", {{}, nccl::kInvalidArgument, 0}, version("22304")).wait(), 0);
  CHECK_EQ(Process("broadcast_float8", {{}, 0, 0}, version("22403")).wait(), 0);
}

ROLE(reuse_a_communicator) {
  auto comm = joined({new_id(), 0, 1});
  CHECK_EQ(CommDestroy(comm), 0);
  CommDestroy(comm);
}

CASE(a_second_destroy_can_crash_like_the_real_one) {
  CHECK_EQ(Process("reuse_a_communicator", {}).wait(), 0);
  // A sanitizer turns the signal into a status of its own.
  CHECK(Process("reuse_a_communicator", {}, fault("crash-on-reuse")).wait() != 0);
}

ROLE(hang_in_alloc) {
  std::atomic<bool> returned{false};
  std::thread([&] {
    use_first_device();
    CUdeviceptr address = 0;
    allocate(&address, 16);
    returned = true;
  }).detach();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(!returned);
  std::_Exit(0);
}

CASE(a_call_can_hang) { CHECK_EQ(Process("hang_in_alloc", {}, fault("hang=cuMemAlloc")).wait(), 0); }

CASE(every_name_has_a_twin_for_profilers_that_does_the_same) {
  std::ifstream names(EMULATOR_NCCL_NAMES);
  for (std::string name; std::getline(names, name);) {
    if (!name.starts_with('#')) CHECK(symbol_of(nccl_library(), ("p" + name).c_str()) != nullptr);
  }
  // The id goes by value, which is 128 bytes on the stack: nothing may move between the two.
  const auto init = reinterpret_cast<int (*)(ncclComm_t*, int, ncclUniqueId, int)>(
      symbol_of(nccl_library(), "pncclCommInitRank"));
  ncclComm_t comm = nullptr;
  CHECK_EQ(init(&comm, 1, new_id(), 0), 0);
  CHECK_EQ(CommDestroy(comm), 0);
}

}  // namespace emulator::test
