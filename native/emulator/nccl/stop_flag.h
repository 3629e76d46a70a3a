#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

namespace emulator::nccl {

/** Set once, by abort; wakes whoever sleeps on it. */
class StopFlag {
 public:
  void set() {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
  }
  bool is_set() const { return stopped_.load(); }
  /** Sleeps; false when the flag was set meanwhile. */
  bool sleep(std::chrono::nanoseconds duration) {
    std::unique_lock lock(mutex_);
    return !changed_.wait_for(lock, duration, [&] { return stopped_.load(); });
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stopped_.load(); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> stopped_{false};
};

}  // namespace emulator::nccl
