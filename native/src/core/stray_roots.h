// ncclGetUniqueId starts a thread that listens for the ranks; when they never all come, because the init was
// aborted or never begun, that thread and its three sockets stay until the process ends, and nothing can end
// them (contracts/nccl.md 2.4). So they are counted, and there is a limit.
#pragma once

#include <mutex>
#include <set>
#include <string>

namespace weightcast {

class StrayRoots {
 public:
  /// So many are left behind before ids are refused: 192 sockets, far below what a container allows.
  static constexpr std::size_t kMost = 64;

  /// The threads are the process's, whoever made them.
  static StrayRoots& of_process();

  /// Runs `get_unique_id` and remembers the threads that it left behind. @throws Error(WC_NATIVE_LIMIT) when
  /// the limit is reached.
  template <class GetUniqueId>
  int while_counting(GetUniqueId&& get_unique_id) {
    std::unique_lock lock(mutex_);
    expect_room();
    const auto before = threads();
    lock.unlock();  // it can hang, and nobody else is to hang with it
    const int result = get_unique_id();
    lock.lock();
    for (const auto& thread : threads()) {
      // Another thread that starts in this very moment counts as well, as long as it lives.
      if (!before.contains(thread)) roots_.insert(thread);
    }
    return result;
  }

 private:
  static std::set<std::string> threads();
  void expect_room();

  std::mutex mutex_;
  std::set<std::string> roots_;  // guarded by mutex_
};

}  // namespace weightcast
