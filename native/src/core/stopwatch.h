#pragma once

#include <atomic>
#include <cstdint>

#include "core/deadline.h"

namespace weightcast {

/// Adds the nanoseconds of its life to a sum.
class Stopwatch {
 public:
  explicit Stopwatch(std::atomic<std::uint64_t>& sum) : sum_(sum), since_(Clock::now()) {}
  ~Stopwatch() {
    const auto elapsed = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - since_);
    sum_.fetch_add(std::uint64_t(elapsed.count()), std::memory_order_relaxed);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  std::atomic<std::uint64_t>& sum_;
  Clock::time_point since_;
};

}  // namespace weightcast
