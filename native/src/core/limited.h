// Work on a thread of its own, with a limit: a library can hang where it is opened or asked.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>

#include "core/call_watch.h"
#include "core/crew.h"
#include "core/outcome.h"

namespace weightcast {

/// `done` gets what `work` returns or throws, or WC_NATIVE_STUCK at the limit; the thread is then left
/// behind. `work` must own all that it touches.
template <class T, class Work>
void run_limited(Crew& crew, double limit_ms, Work work, Done<T> done) {
  struct Desk {
    CallWatch calls;
    std::mutex mutex;
    std::condition_variable settled;
    std::optional<Outcome<T>> outcome;  // guarded by mutex
  };
  auto desk = std::make_shared<Desk>();
  crew.start("wc-helper", [desk, work = std::move(work)] {
    CallWatch::of_this_thread() = &desk->calls;
    auto outcome = capture<T>(work);
    std::lock_guard lock(desk->mutex);
    desk->outcome.emplace(std::move(outcome));
    desk->settled.notify_all();
  });
  crew.start("wc-waiter", [desk, limit_ms, done = std::move(done)] {
    const auto deadline = Deadline::after(limit_ms);
    std::unique_lock lock(desk->mutex);
    desk->settled.wait_until(lock, deadline.at(), [&] { return desk->outcome.has_value(); });
    if (desk->outcome) return done(std::move(*desk->outcome));
    // What a call is about may be described only while its thread can't leave it.
    const bool parked = desk->calls.abandon(desk->calls.inside());
    const auto call = parked ? desk->calls.describe() : std::string("a library");
    done(Error(code::kStuck,
               call + " has not returned for " + std::to_string(long(limit_ms)) +
                   " ms; the thread that called it was left behind",
               {{"call", call}, {"elapsedMs", limit_ms}}));
  });
}

}  // namespace weightcast
