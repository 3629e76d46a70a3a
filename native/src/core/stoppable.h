#pragma once

#include "core/deadline.h"

namespace weightcast {

/// Something that runs on threads of its own and must not outlive the environment that started it, if it can
/// be helped.
class Stoppable {
 public:
  virtual ~Stoppable() = default;
  /// From any thread; never blocks.
  virtual void request_stop() noexcept = 0;
  /// False when it still runs at the deadline: it is then left behind.
  virtual bool wait_stopped(const Deadline& deadline) noexcept = 0;
};

}  // namespace weightcast
