// How other threads reach a thread that polls: two signals, and a bell that cuts its pauses short.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace weightcast {

class Doorbell {
 public:
  void ring() {
    {
      std::lock_guard lock(mutex_);
      rung_ = true;
    }
    condition_.notify_one();
  }

  /// Returns at the next ring, at once when one is pending, or after `limit`.
  void wait(std::chrono::microseconds limit) {
    std::unique_lock lock(mutex_);
    condition_.wait_for(lock, limit, [this] { return rung_; });
    rung_ = false;
  }

 private:
  std::mutex mutex_;
  std::condition_variable condition_;
  bool rung_ = false;  // guarded by mutex_
};

struct Interrupt {
  std::atomic<int> aborts{0};  ///< asked for and not yet done
  std::atomic<bool> stop{false};
  Doorbell bell;

  bool raised() const { return aborts.load() > 0 || stop.load(); }
};

/// Pauses that grow from a yield to a millisecond: a short operation is seen at once, a long one costs no
/// core.
class Backoff {
 public:
  void pause(Doorbell& bell) {
    if (turns_ < kYields) {
      ++turns_;
      std::this_thread::yield();
      return;
    }
    bell.wait(pause_);
    pause_ = std::min(pause_ * 3 / 2, std::chrono::microseconds(1000));
  }
  void reset() {
    turns_ = 0;
    pause_ = kFirst;
  }

 private:
  static constexpr int kYields = 32;
  static constexpr std::chrono::microseconds kFirst{20};
  int turns_ = 0;
  std::chrono::microseconds pause_ = kFirst;
};

}  // namespace weightcast
