// Threads that are never joined without a limit: they hold their own state, and whoever waits for them may
// give up.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "core/deadline.h"

namespace weightcast {

class Crew {
 public:
  Crew() : count_(std::make_shared<Count>()) {}

  /// Starts a detached thread. `work` must own all that it touches and must not throw.
  /// @throws Error WC_THREAD_REFUSED when the system gives no more threads
  void start(const char* name, std::function<void()> work);
  /// True when all have ended by the deadline.
  bool wait(const Deadline& deadline) const;
  /// For a thread that nobody waits for.
  void wait() const;

 private:
  struct Count {
    std::mutex mutex;
    std::condition_variable ended;
    int running = 0;  // guarded by mutex
  };
  std::shared_ptr<Count> count_;
};

}  // namespace weightcast
