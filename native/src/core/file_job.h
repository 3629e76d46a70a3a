// Work over files on several threads, which anybody may end at any time: also while a read hangs.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "core/crew.h"
#include "core/outcome.h"
#include "core/stoppable.h"
#include "core/ticker.h"

namespace weightcast {

template <class Result>
class FileJob : public Stoppable, public std::enable_shared_from_this<FileJob<Result>> {
 public:
  using Progress = std::function<void(std::uint64_t bytes)>;

  /// The job is settled soon after this, also when a read never returns.
  void request_stop() noexcept override {
    if (cancelled_.exchange(true) || settled_) return;
    stop_ = true;
    try {
      ending_.start("wc-file-end", [self = this->shared_from_this()] {
        // The threads hold the job and touch nothing else, so they may come back whenever they do.
        if (self->crew_.wait(Deadline::after(kStopLimitMs))) return;
        self->settle(Error(code::kClosed,
                           "the job was cancelled; a call of the file system has not returned, and its thread "
                           "ends when it does"));
      });
    } catch (...) {  // no thread to wait on: nobody waits
      settle(Error(code::kClosed, "the job was cancelled"));
    }
  }
  bool wait_stopped(const Deadline& deadline) noexcept override {
    return crew_.wait(deadline) && ending_.wait(deadline);
  }

 protected:
  FileJob(const char* name, unsigned threads, Progress progress, Done<Result> done)
      : name_(name), threads_(threads), progress_(std::move(progress)), done_(std::move(done)) {}

  /// Starts the threads. `done` is called once: on one of them, or by whoever gave them up.
  void start() {
    running_ = 1;
    crew_.start(name_, [self = this->shared_from_this()] { self->run(); });
  }

  /// It was cancelled, or something has failed. For those who are no part of the job: the flag itself.
  bool stopping() const { return stop_; }
  const std::atomic<bool>& stop_flag() const { return stop_; }
  void advance(std::uint64_t bytes) {
    const std::uint64_t total = bytes_ += bytes;
    if (progress_ && ticker_.due()) progress_(total);
  }
  std::uint64_t bytes() const { return bytes_; }

  /// `part` (it may throw) on one more thread, unless the job stops before; the job is settled after it. False
  /// when the system gives no more threads: nothing was begun.
  template <class Part>
  bool aside(const char* name, Part part) {
    ++running_;
    try {
      crew_.start(name, [self = this->shared_from_this(), part = std::move(part)]() mutable {
        self->take_part(std::move(part));
      });
      return true;
    } catch (...) {
      --running_;
      return false;
    }
  }

  /// On the first thread, before any work. Gives the most threads that make sense.
  virtual unsigned open() = 0;
  /// On every thread, until nothing is left to do.
  virtual void work() = 0;
  /// On the last thread, when nothing failed.
  virtual Result finish() = 0;
  /// On the last thread, always: closes the files.
  virtual void release() noexcept = 0;

 private:
  /// A read that has not returned so long after a stop is left behind: a file system can hang for good.
  static constexpr double kStopLimitMs = 500;

  void run() {
    try {
      const unsigned wanted = threads_ != 0 ? threads_ : std::max(1u, std::thread::hardware_concurrency());
      const unsigned threads = std::min(wanted, open());
      for (unsigned i = 1; i < threads; ++i) {
        if (!aside(name_, [this] { work(); })) break;  // fewer threads will do
      }
    } catch (...) {
      fail(current_error());
    }
    take_part([this] { work(); });
  }

  template <class Part>
  void take_part(Part part) {
    {
      const Part mine = std::move(part);  // what it holds is given up before the job ends
      try {
        if (!stopping()) mine();
      } catch (...) {
        fail(current_error());
      }
    }
    if (--running_ == 0) end();
  }

  void end() {
    auto outcome = capture<Result>([this] {
      if (cancelled_) throw Error(code::kClosed, "the job was cancelled");
      {
        std::lock_guard lock(mutex_);
        if (error_) throw *error_;
      }
      auto result = finish();
      if (progress_) progress_(bytes_);
      return result;
    });
    release();  // here: the handle may be collected on a thread that must not wait for a file system
    settle(std::move(outcome));
  }

  void fail(const Error& error) {
    std::lock_guard lock(mutex_);
    if (!error_) error_ = error;
    stop_ = true;
  }

  void settle(Outcome<Result> outcome) {
    if (settled_.exchange(true)) return;
    const auto done = std::move(done_);
    done(std::move(outcome));
  }

  const char* name_;
  unsigned threads_;
  Progress progress_;
  Done<Result> done_;  // of whoever settles the job
  std::atomic<unsigned> running_{0};
  std::atomic<bool> settled_{false};
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> stop_{false};  // cancelled or failed
  std::atomic<std::uint64_t> bytes_{0};
  Ticker ticker_;
  std::mutex mutex_;
  std::optional<Error> error_;  // guarded by mutex_
  Crew crew_;
  Crew ending_;  // waits for the others after a stop
};

}  // namespace weightcast
