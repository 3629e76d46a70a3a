#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace emulator {

/**
 * One thread that runs jobs in order. It starts with the first job and ends, by itself, after close() and the
 * last job. Never joined: a job may hang as long as a collective hangs, and process exit must not wait for
 * it.
 */
class Worker : public std::enable_shared_from_this<Worker> {
 public:
  void post(std::function<void()> job) {
    std::lock_guard lock(mutex_);
    if (!started_) {
      std::thread([self = shared_from_this()] { self->run(); }).detach();  // may throw: then nothing is posted
      started_ = true;
    }
    jobs_.push_back(std::move(job));
    ++posted_;
    changed_.notify_all();
  }

  /** `keep` lives until the last job is done. Starts no thread: what ends must not need one. */
  void close(std::shared_ptr<void> keep = nullptr) {
    std::lock_guard lock(mutex_);
    if (started_) {
      jobs_.push_back([keep = std::move(keep)] {});
      ++posted_;
    }
    closed_ = true;
    changed_.notify_all();
  }

  bool idle() {
    std::lock_guard lock(mutex_);
    return done_ == posted_;
  }

  /** Waits for the jobs that were posted before the call. */
  void synchronize() {
    std::unique_lock lock(mutex_);
    const auto target = posted_;
    changed_.wait(lock, [&] { return done_ >= target; });
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return closed_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      auto job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
      job = nullptr;
      lock.lock();
      ++done_;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;  // guards everything below
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  std::uint64_t posted_ = 0;
  std::uint64_t done_ = 0;
  bool started_ = false;
  bool closed_ = false;
};

}  // namespace emulator
