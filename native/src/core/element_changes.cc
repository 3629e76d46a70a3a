#include "core/element_changes.h"

#include <bit>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace weightcast {
namespace {

constexpr std::size_t kBlock = 64;

/// A bit for each byte of a block that differs.
using Mask = std::uint64_t;

/// Adds the elements of a block: the bits of an element's bytes fall together on its lowest.
inline std::size_t add(Mask mask, unsigned shift, std::uint32_t first, std::uint32_t* positions) {
  if (shift >= 1) mask |= mask >> 1;
  if (shift >= 2) mask |= mask >> 2;
  if (shift >= 3) mask |= mask >> 4;
  constexpr Mask kLowest[] = {~Mask{0}, 0x5555555555555555, 0x1111111111111111, 0x0101010101010101};
  mask &= kLowest[shift];
  std::size_t count = 0;
  for (; mask != 0; mask &= mask - 1) {
    positions[count++] = first + (std::uint32_t(std::countr_zero(mask)) >> shift);
  }
  return count;
}

/// What is left of a run that ends inside a block.
template <class MaskOf>
inline std::size_t add_rest(MaskOf mask_of, const std::uint8_t* base, const std::uint8_t* now,
                            std::size_t length, unsigned shift, std::uint32_t first,
                            std::uint32_t* positions) {
  if (length == 0) return 0;
  std::uint8_t a[kBlock] = {}, b[kBlock] = {};
  std::memcpy(a, base, length);
  std::memcpy(b, now, length);
  return add(mask_of(a, b), shift, first, positions);
}

#if defined(__SSE2__)
inline Mask mask_of_16(const std::uint8_t* a, const std::uint8_t* b) {
  const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a));
  const __m128i y = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b));
  return Mask(std::uint16_t(~_mm_movemask_epi8(_mm_cmpeq_epi8(x, y))));
}

inline Mask mask_of_block(const std::uint8_t* a, const std::uint8_t* b) {
  return mask_of_16(a, b) | mask_of_16(a + 16, b + 16) << 16 | mask_of_16(a + 32, b + 32) << 32 |
         mask_of_16(a + 48, b + 48) << 48;
}
#else
inline Mask mask_of_block(const std::uint8_t* a, const std::uint8_t* b) {
  std::uint64_t x[8], y[8], any = 0;
  std::memcpy(x, a, kBlock);
  std::memcpy(y, b, kBlock);
  for (int i = 0; i < 8; ++i) any |= x[i] ^= y[i];
  if (any == 0) return 0;
  Mask mask = 0;
  constexpr std::uint64_t kLow7 = 0x7f7f7f7f7f7f7f7f, kHigh = 0x8080808080808080;
  for (int i = 0; i < 8; ++i) {
    const std::uint64_t differs = ((((x[i] & kLow7) + kLow7) | x[i]) & kHigh) >> 7;
    mask |= (differs * 0x0102040810204080 >> 56) << (8 * i);  // little-endian: byte 0 is bit 0
  }
  return mask;
}
#endif

std::size_t find_portable(const std::uint8_t* base, const std::uint8_t* now, std::size_t length,
                          unsigned shift, std::uint32_t* positions) {
  std::size_t count = 0, at = 0;
  for (; at + kBlock <= length; at += kBlock) {
    const Mask mask = mask_of_block(base + at, now + at);
    if (mask != 0) count += add(mask, shift, std::uint32_t(at >> shift), positions + count);
  }
  return count + add_rest(mask_of_block, base + at, now + at, length - at, shift, std::uint32_t(at >> shift),
                          positions + count);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) std::size_t find_avx2(const std::uint8_t* base, const std::uint8_t* now,
                                                      std::size_t length, unsigned shift,
                                                      std::uint32_t* positions) {
  std::size_t count = 0, at = 0;
  for (; at + kBlock <= length; at += kBlock) {
    const auto* a = reinterpret_cast<const __m256i*>(base + at);
    const auto* b = reinterpret_cast<const __m256i*>(now + at);
    const __m256i low = _mm256_cmpeq_epi8(_mm256_loadu_si256(a), _mm256_loadu_si256(b));
    const __m256i high = _mm256_cmpeq_epi8(_mm256_loadu_si256(a + 1), _mm256_loadu_si256(b + 1));
    const Mask same =
        Mask(std::uint32_t(_mm256_movemask_epi8(low))) | Mask(std::uint32_t(_mm256_movemask_epi8(high))) << 32;
    if (same != ~Mask{0}) count += add(~same, shift, std::uint32_t(at >> shift), positions + count);
  }
  return count + add_rest(mask_of_block, base + at, now + at, length - at, shift, std::uint32_t(at >> shift),
                          positions + count);
}
#endif

template <class Element>
std::size_t gather(const std::uint8_t* from, const std::uint32_t* positions, std::size_t count,
                   std::uint8_t* target) {
  for (std::size_t i = 0; i < count; ++i) {
    std::memcpy(target + i * sizeof(Element), from + std::size_t(positions[i]) * sizeof(Element),
                sizeof(Element));
  }
  return count * sizeof(Element);
}

}  // namespace

ElementChanges::Find ElementChanges::portable() { return find_portable; }

ElementChanges::Find ElementChanges::accelerated() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return find_avx2;
#endif
  return nullptr;
}

std::size_t ElementChanges::find(const std::uint8_t* base, const std::uint8_t* now, std::size_t length,
                                 unsigned element_bytes, std::uint32_t* positions) {
  static const Find best = accelerated() != nullptr ? accelerated() : portable();
  return best(base, now, length, unsigned(std::countr_zero(element_bytes)), positions);
}

std::size_t gather_elements(const std::uint8_t* from, unsigned element_bytes, const std::uint32_t* positions,
                            std::size_t count, std::uint8_t* target) {
  switch (element_bytes) {
    case 1:
      return gather<std::uint8_t>(from, positions, count, target);
    case 2:
      return gather<std::uint16_t>(from, positions, count, target);
    case 4:
      return gather<std::uint32_t>(from, positions, count, target);
    default:
      return gather<std::uint64_t>(from, positions, count, target);
  }
}

}  // namespace weightcast
