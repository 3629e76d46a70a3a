#include "core/call_watch.h"

#include <unistd.h>

namespace weightcast {
namespace {

/// "cuMemAlloc_v2" is cuMemAlloc to everybody but the linker.
std::string without_version(std::string name) {
  if (name.ends_with("_v2")) name.resize(name.size() - 3);
  return name;
}

}  // namespace

void CallWatch::enter(const char* name, const char* subject) noexcept {
  name_.store(name, std::memory_order_relaxed);
  subject_.store(subject, std::memory_order_relaxed);
  inside_.store(++last_, std::memory_order_release);
}

void CallWatch::leave() noexcept {
  Turn turn = last_;
  if (inside_.compare_exchange_strong(turn, 0, std::memory_order_acq_rel)) return;
  // Given up: what this thread would go on with belongs to nobody, and may be freed.
  for (;;) ::pause();
}

bool CallWatch::abandon(Turn turn) noexcept {
  return turn != 0 && inside_.compare_exchange_strong(turn, kAbandoned, std::memory_order_acq_rel);
}

std::string CallWatch::describe() const {
  const char* name = name_.load(std::memory_order_relaxed);
  const char* subject = subject_.load(std::memory_order_relaxed);
  if (name == nullptr) return "the library";
  return without_version(name) + (subject == nullptr ? "" : std::string(" of ") + subject);
}

}  // namespace weightcast
