// Hashes what two lanes of a thread have ready, together as far as both reach.
#pragma once

#include <algorithm>
#include <cstddef>

namespace weightcast {

/// A lane has `ready()`, `hash(length)` and `hash_both(a, b, length)`; `has_a` and `has_b` say which have
/// anything ready, and one of them does. Returns the number of bytes.
template <class Lane>
std::size_t hash_ready(Lane& a, bool has_a, Lane& b, bool has_b) {
  if (has_a && has_b) {
    const std::size_t both = std::min(a.ready(), b.ready());
    Lane::hash_both(a, b, both);
    return 2 * both;
  }
  Lane& lane = has_a ? a : b;
  const std::size_t rest = lane.ready();
  lane.hash(rest);
  return rest;
}

}  // namespace weightcast
