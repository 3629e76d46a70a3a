// Lets one of many callers through at most 30 times a second: progress reports are coalesced where they
// arise.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/deadline.h"

namespace weightcast {

class Ticker {
 public:
  bool due() {
    const std::int64_t now = Clock::now().time_since_epoch().count();
    std::int64_t next = next_.load(std::memory_order_relaxed);
    return now >= next && next_.compare_exchange_strong(next, now + kPeriod, std::memory_order_relaxed);
  }

 private:
  static constexpr std::int64_t kPeriod =
      std::chrono::duration_cast<Clock::duration>(std::chrono::milliseconds(34)).count();
  std::atomic<std::int64_t> next_{Clock::now().time_since_epoch().count() + kPeriod};
};

}  // namespace weightcast
