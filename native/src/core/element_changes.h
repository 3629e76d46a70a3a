// Which elements of two runs of bytes differ.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weightcast {

/// Writes the ascending indices of the elements that differ, in units of `element_bytes` (1, 2, 4 or 8), and
/// gives their number. `length` is a multiple of the element's bytes; `positions` has room for every element.
class ElementChanges {
 public:
  using Find = std::size_t (*)(const std::uint8_t* base, const std::uint8_t* now, std::size_t length,
                               unsigned shift, std::uint32_t* positions);

  static std::size_t find(const std::uint8_t* base, const std::uint8_t* now, std::size_t length,
                          unsigned element_bytes, std::uint32_t* positions);

  /// With the instructions that every processor of the architecture has.
  static Find portable();
  /// AVX2; null where the processor lacks it.
  static Find accelerated();
};

/// Copies the elements at `positions` next to each other; gives the bytes that were written.
std::size_t gather_elements(const std::uint8_t* from, unsigned element_bytes, const std::uint32_t* positions,
                            std::size_t count, std::uint8_t* target);

}  // namespace weightcast
