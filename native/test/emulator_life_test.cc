// The life of a communicator: joining, waiting, failing, ending.
#include <atomic>
#include <thread>

#include "emulator_nccl_api.h"

namespace emulator::test {

CASE(a_non_blocking_init_waits_for_a_missing_peer_until_it_is_aborted) {
  auto options = config(0);
  ncclComm_t comm = nullptr;
  int count = 0;
  CHECK_EQ(CommInitRankConfig(&comm, 2, new_id(), 0, &options), nccl::kInProgress);
  CHECK_EQ(async_state(comm), nccl::kInProgress);
  CHECK_EQ(CommCount(comm, &count), nccl::kInvalidArgument);
  CHECK_EQ(async_state(comm), nccl::kInProgress);
  CHECK_EQ(CommFinalize(comm), nccl::kInvalidArgument);
  CHECK_EQ(async_state(comm), nccl::kInvalidArgument);
  const Stopwatch watch;
  CHECK_EQ(CommAbort(comm), 0);
  CHECK(watch.seconds() < 1);
  CHECK_EQ(CommAbort(comm), nccl::kInvalidArgument);
}

CASE(an_abort_wakes_a_blocked_init_which_returns_an_internal_error) {
  std::atomic<ncclComm_t> comm{nullptr};
  static_assert(sizeof comm == sizeof(ncclComm_t));
  ncclResult_t result = -1;
  std::thread blocked([&] { result = CommInitRank(reinterpret_cast<ncclComm_t*>(&comm), 2, new_id(), 0); });
  eventually("the handle is written", [&] { return comm.load() != nullptr; });
  CHECK_EQ(async_state(comm), 0);
  CHECK_EQ(CommAbort(comm), 0);
  blocked.join();
  CHECK_EQ(result, nccl::kInternalError);
}

CASE(aborted_inits_leave_no_threads_and_no_files_behind) {
  auto options = config(0);
  const auto files = open_files(), threads = running_threads();
  for (int i = 0; i < 5; ++i) {
    ncclComm_t comm = nullptr;
    CHECK_EQ(CommInitRankConfig(&comm, 2, new_id(), 0, &options), nccl::kInProgress);
    // An id that nobody has reached yet keeps its root, like the real one: wait until this rank is there.
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK_EQ(CommAbort(comm), 0);
  }
  eventually("nothing leaks", [&] { return open_files() <= files && running_threads() <= threads; });
}

ROLE(join_and_wait) {
  auto comm = joined(me);
  char byte = 0;
  Broadcast(nullptr, &byte, 1, nccl::kUint8, 0, comm, nullptr);
}

CASE(a_peer_that_dies_idle_is_not_reported) {
  const Rank me{new_id(), 0, 2};
  Process peer("join_and_wait", {me.id, 1, 2});
  auto comm = joined(me);
  peer.kill();
  CHECK_EQ(peer.wait(), 137);
  CHECK_EQ(async_state(comm), 0);
  // A small broadcast finds room, a root does not notice; one that does not fit stays pending.
  std::vector<unsigned char> large(64 << 20);
  CHECK_EQ(Broadcast(large.data(), large.data(), 100, nccl::kUint8, 0, comm, nullptr), 0);
  std::thread stuck([&] {
    CHECK_EQ(Broadcast(large.data(), large.data(), large.size(), nccl::kUint8, 0, comm, nullptr),
             nccl::kInternalError);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK_EQ(async_state(comm), 0);
  const Stopwatch watch;
  CHECK_EQ(CommAbort(comm), 0);
  stuck.join();
  CHECK(watch.seconds() < 1);
}

ROLE(send_large) {
  auto comm = joined(me);
  std::vector<unsigned char> large(64 << 20);
  Broadcast(large.data(), large.data(), large.size(), nccl::kUint8, me.rank, comm, nullptr);
}

CASE(a_sender_that_dies_in_a_broadcast_gives_the_receiver_a_remote_error) {
  const Rank me{new_id(), 0, 2};
  Process sender("send_large", {me.id, 1, 2}, {"WEIGHTCAST_EMULATOR_FAULTS=die-in-broadcast=1"});
  auto comm = joined(me);
  std::vector<unsigned char> large(64 << 20);
  CHECK_EQ(Broadcast(nullptr, large.data(), large.size(), nccl::kUint8, 1, comm, nullptr),
           nccl::kRemoteError);
  CHECK_EQ(sender.wait(), 1);
  CHECK_EQ(async_state(comm), nccl::kRemoteError);
  CHECK(LastError().find("Connection closed by remote peer") != std::string::npos);
  CHECK(LastError().find("emulation") != std::string::npos);
  CHECK_EQ(CommDestroy(comm), nccl::kRemoteError);
  CHECK_EQ(CommAbort(comm), 0);
}

CASE(a_sender_that_is_killed_is_noticed_within_a_second) {
  const Rank me{new_id(), 0, 2};
  Process sender("send_large", {me.id, 1, 2}, {"WEIGHTCAST_EMULATOR_FAULTS=slow=1000000"});
  auto comm = joined(me);
  std::vector<unsigned char> large(64 << 20);
  Stopwatch watch;
  std::thread killer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    sender.kill();
    watch = {};
  });
  CHECK_EQ(Broadcast(nullptr, large.data(), large.size(), nccl::kUint8, 1, comm, nullptr),
           nccl::kRemoteError);
  killer.join();
  CHECK(watch.seconds() < 1);
  CHECK_EQ(CommAbort(comm), 0);
}

CASE(a_root_that_is_gone_gives_a_remote_error) {
  auto id = new_id();
  id.internal[12] ^= 1;  // nobody listens there
  ncclComm_t comm = nullptr;
  setenv("NCCL_SOCKET_RETRY_CNT", "2", 1);
  CHECK_EQ(CommInitRank(&comm, 2, id, 0), nccl::kRemoteError);
  unsetenv("NCCL_SOCKET_RETRY_CNT");
  CHECK(comm == nullptr);
}

ROLE(refused_for_its_version) {
  ncclComm_t comm = nullptr;
  CHECK_EQ(CommInitRank(&comm, me.ranks, me.id, me.rank), nccl::kInvalidUsage);
}

CASE(ranks_of_different_versions_refuse_each_other) {
  with_ranks("refused_for_its_version", 2,
             [](const Rank& me) {
               ncclComm_t comm = nullptr;
               CHECK_EQ(CommInitRank(&comm, 2, me.id, 0), nccl::kInvalidUsage);
               CHECK(LastError().find("Mismatched NCCL version detected") != std::string::npos);
             },
             {"WEIGHTCAST_EMULATOR_NCCL_VERSION=22803"});
}

CASE(an_id_serves_one_communicator) {
  const auto threads = running_threads();
  const auto id = new_id();
  ncclComm_t comm = nullptr, again = nullptr;
  CHECK_EQ(CommInitRank(&comm, 1, id, 0), 0);
  // A rank that reached the root just before it ended would wait for ever, as a real one does.
  eventually("the root ends", [&] { return running_threads() <= threads; });
  setenv("NCCL_SOCKET_RETRY_CNT", "1", 1);
  CHECK_EQ(CommInitRank(&again, 1, id, 0), nccl::kRemoteError);
  unsetenv("NCCL_SOCKET_RETRY_CNT");
  CHECK_EQ(CommDestroy(comm), 0);
  CHECK_EQ(CommDestroy(comm), nccl::kInvalidArgument);
}

ROLE(many_communicators) {
  ncclUniqueId next = me.id;
  for (int i = 0; i < 50; ++i) {
    auto comm = joined({next, me.rank, me.ranks});
    CHECK_EQ(Broadcast(&next, &next, sizeof next, nccl::kUint8, 0, comm, nullptr), 0);
    CHECK_EQ(CommDestroy(comm), 0);
  }
}

CASE(one_communicator_after_another_leaks_nothing) {
  with_ranks("many_communicators", 3, [](const Rank& first) {
    Rank me = first;
    std::size_t files = 0, threads = 0;
    for (int i = 0; i < 50; ++i) {
      auto comm = joined(me);
      me.id = new_id();
      CHECK_EQ(Broadcast(&me.id, &me.id, sizeof me.id, nccl::kUint8, 0, comm, nullptr), 0);
      CHECK_EQ(CommDestroy(comm), 0);
      if (i == 1) files = open_files(), threads = running_threads();
    }
    // The last id has nobody who will join: its root stays, as one stood by at the first count.
    eventually("nothing leaks", [&] { return open_files() <= files && running_threads() <= threads; });
  });
}

ROLE(expect_other_size) {
  auto comm = joined(me);
  std::vector<unsigned char> buffer(2000);
  std::thread stuck([&] {
    CHECK_EQ(Broadcast(nullptr, buffer.data(), 2000, nccl::kUint8, 0, comm, nullptr), nccl::kInternalError);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK_EQ(async_state(comm), 0);
  CHECK_EQ(CommAbort(comm), 0);
  stuck.join();
}

CASE(ranks_that_disagree_on_the_size_hang_until_abort) {
  with_ranks("expect_other_size", 2, [](const Rank& me) {
    auto comm = joined(me);
    std::vector<unsigned char> buffer(1000);
    CHECK_EQ(Broadcast(buffer.data(), buffer.data(), 1000, nccl::kUint8, 0, comm, nullptr), 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
    CHECK_EQ(CommAbort(comm), 0);
  });
}

ROLE(exit_inside_init) {
  std::thread([me] {
    ncclComm_t comm = nullptr;
    CommInitRank(&comm, me.ranks, me.id, me.rank);
  }).detach();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  std::exit(0);
}

CASE(a_process_can_exit_while_a_thread_waits_in_init) {
  Process process("exit_inside_init", {new_id(), 1, 2});
  CHECK_EQ(process.wait(std::chrono::seconds(5)), 0);
}

CASE(a_config_is_checked_like_the_real_library_checks_it) {
  ncclComm_t comm = nullptr;
  auto wrong_magic = config(0);
  wrong_magic.magic = 1;
  CHECK_EQ(CommInitRankConfig(&comm, 1, new_id(), 0, &wrong_magic), nccl::kInvalidArgument);
  auto wrong_blocking = config(2);
  CHECK_EQ(CommInitRankConfig(&comm, 1, new_id(), 0, &wrong_blocking), nccl::kInvalidArgument);
  struct {
    ncclConfig_t head;
    char zeros[152];
  } newer = {config(0), {}};
  newer.head.size = sizeof newer;
  newer.head.version = 99999;
  CHECK_EQ(CommInitRankConfig(&comm, 1, new_id(), 0, &newer.head), nccl::kInvalidArgument);
  auto shortest = config(nccl::kUndefinedInt);
  shortest.size = 24;
  shortest.version = 21400;
  CHECK_EQ(CommInitRankConfig(&comm, 1, new_id(), 0, &shortest), 0);
  CHECK_EQ(CommDestroy(comm), 0);
  CHECK_EQ(CommInitRank(&comm, 2, new_id(), 2), nccl::kInvalidArgument);
  CHECK_EQ(CommInitRank(&comm, 0, new_id(), 0), nccl::kInvalidArgument);
}

ROLE(without_driver) {
  ncclComm_t comm = nullptr;
  auto options = config(0);
  CHECK_EQ(CommInitRankConfig(&comm, me.ranks, me.id, me.rank, &options), nccl::kUnhandledCudaError);
  CHECK(LastError().find("driver version is insufficient") != std::string::npos);
  // The leaked depth swallows what comes later, until one GroupEnd too many.
  CHECK_EQ(GroupEnd(), 0);
  CHECK_EQ(GroupEnd(), nccl::kInvalidUsage);
}

CASE(without_a_driver_init_fails_and_can_leak_the_group_depth) {
  Process process("without_driver", {new_id(), 0, 1},
                  {"WEIGHTCAST_EMULATOR_FAULTS=no-driver,group-depth-leak"});
  CHECK_EQ(process.wait(), 0);
}

ROLE(fails_after_two) {
  auto comm = joined(me);
  char byte = 1;
  CHECK_EQ(Broadcast(&byte, &byte, 1, nccl::kUint8, 0, comm, nullptr), 0);
  CHECK_EQ(async_state(comm), 0);
  CHECK_EQ(Broadcast(&byte, &byte, 1, nccl::kUint8, 0, comm, nullptr), nccl::kRemoteError);
  CHECK_EQ(async_state(comm), nccl::kRemoteError);
  CHECK_EQ(CommAbort(comm), 0);
}

CASE(an_async_error_can_be_switched_on) {
  Process process("fails_after_two", {new_id(), 0, 1}, {"WEIGHTCAST_EMULATOR_FAULTS=async-error=2"});
  // Rank 0 of 1 joins at the id's root, which lives here.
  CHECK_EQ(process.wait(), 0);
}

}  // namespace emulator::test
