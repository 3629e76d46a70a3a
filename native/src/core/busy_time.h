#pragma once

#include "core/deadline.h"

namespace weightcast {

/// Time during which a stage had something to do, as its owner saw it.
class BusyTime {
 public:
  void set(bool busy) {
    if (busy == busy_) return;
    if (busy) {
      since_ = Clock::now();
    } else {
      total_ms_ += milliseconds_since(since_);
    }
    busy_ = busy;
  }
  double total_ms() const { return total_ms_; }

 private:
  bool busy_ = false;
  Clock::time_point since_;
  double total_ms_ = 0;
};

}  // namespace weightcast
