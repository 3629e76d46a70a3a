#pragma once

#include <chrono>

namespace weightcast {

using Clock = std::chrono::steady_clock;

inline double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// A point in time at which a wait ends, and the budget that led to it (for messages).
class Deadline {
 public:
  static Deadline after(double milliseconds) { return Deadline(milliseconds); }

  bool passed() const { return Clock::now() >= at_; }
  Clock::time_point at() const { return at_; }
  double budget_ms() const { return budget_ms_; }

 private:
  explicit Deadline(double milliseconds)
      : at_(Clock::now() + std::chrono::duration_cast<Clock::duration>(
                               std::chrono::duration<double, std::milli>(milliseconds))),
        budget_ms_(milliseconds) {}

  Clock::time_point at_;
  double budget_ms_;
};

}  // namespace weightcast
