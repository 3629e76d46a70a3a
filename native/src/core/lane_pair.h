// Hashes what two lanes of a thread have ready, together while both are at a block's boundary.
#pragma once

#include <algorithm>
#include <cstddef>

namespace weightcast {

/// A lane has `ready()`, `hash(length)` and `hash_both(a, b, length)`; `has_a` and `has_b` say which have
/// anything ready, and one of them does. Returns the number of bytes.
template <class Lane>
std::size_t hash_ready(Lane& a, bool has_a, Lane& b, bool has_b) {
  constexpr std::size_t kBlock = 64;
  const std::size_t both = has_a && has_b ? std::min(a.ready(), b.ready()) / kBlock * kBlock : 0;
  if (both > 0) {
    Lane::hash_both(a, b, both);
    return 2 * both;
  }
  // One has ended, or has less than a block left: the other stays at a block's boundary.
  Lane& lane = has_a && (!has_b || a.ready() < b.ready()) ? a : b;
  const std::size_t rest = lane.ready();
  lane.hash(rest);
  return rest;
}

}  // namespace weightcast
