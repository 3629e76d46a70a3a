// SHA-256 with the SHA extensions of x86-64 (Intel SDM, SHA256RNDS2, SHA256MSG1, SHA256MSG2).
#include "core/sha256.h"
#include "core/sha256_constants.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace weightcast {

#if defined(__x86_64__)
namespace {

#define WEIGHTCAST_SHA __attribute__((target("sha,sse4.1,ssse3"), always_inline)) inline

/// One state as the instructions want it, (A,B,E,F) and (C,D,G,H) with the most significant word first, and
/// the last sixteen words of its message schedule.
struct Lane {
  __m128i abef, cdgh;
  __m128i words[4];
};

WEIGHTCAST_SHA Lane load_state(const std::uint32_t state[8]) {
  const __m128i dcba = _mm_loadu_si128(reinterpret_cast<const __m128i*>(state));
  const __m128i hgfe = _mm_loadu_si128(reinterpret_cast<const __m128i*>(state + 4));
  const __m128i cdab = _mm_shuffle_epi32(dcba, 0xb1);
  const __m128i efgh = _mm_shuffle_epi32(hgfe, 0x1b);
  return {_mm_alignr_epi8(cdab, efgh, 8), _mm_blend_epi16(efgh, cdab, 0xf0), {}};
}

WEIGHTCAST_SHA void store_state(const Lane& lane, std::uint32_t state[8]) {
  const __m128i feba = _mm_shuffle_epi32(lane.abef, 0x1b);
  const __m128i dchg = _mm_shuffle_epi32(lane.cdgh, 0xb1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_blend_epi16(feba, dchg, 0xf0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

/// Four rounds: those of group `group`, with its four words.
WEIGHTCAST_SHA void rounds(Lane& lane, int group) {
  const __m128i wk = _mm_add_epi32(lane.words[group % 4],
                                   _mm_load_si128(reinterpret_cast<const __m128i*>(kSha256Rounds) + group));
  lane.cdgh = _mm_sha256rnds2_epu32(lane.cdgh, lane.abef, wk);
  lane.abef = _mm_sha256rnds2_epu32(lane.abef, lane.cdgh, _mm_shuffle_epi32(wk, 0x0e));
}

/// Replaces the four words of group `group` by those of the group four later.
WEIGHTCAST_SHA void schedule(Lane& lane, int group) {
  const __m128i w12 = lane.words[(group + 3) % 4];
  const __m128i w0 = lane.words[group % 4];
  const __m128i w4 = lane.words[(group + 1) % 4];
  const __m128i w8 = lane.words[(group + 2) % 4];
  const __m128i partial = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w4), _mm_alignr_epi8(w12, w8, 4));
  lane.words[group % 4] = _mm_sha256msg2_epu32(partial, w12);
}

/// `blocks` blocks of each of `kLanes` streams, in turn: one stream alone spends half of the time waiting for
/// the latency of its rounds.
template <int kLanes>
WEIGHTCAST_SHA void compress_lanes(Lane (&lanes)[kLanes], const std::uint8_t* const (&from)[kLanes],
                                   std::size_t blocks) {
  const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
  const std::uint8_t* data[kLanes];
  for (int i = 0; i < kLanes; ++i) data[i] = from[i];
  for (; blocks > 0; --blocks) {
    Lane before[kLanes];
#pragma GCC unroll 2
    for (int i = 0; i < kLanes; ++i) {
      before[i] = lanes[i];
#pragma GCC unroll 4
      for (int word = 0; word < 4; ++word) {
        const auto* words = reinterpret_cast<const __m128i*>(data[i]);
        lanes[i].words[word] = _mm_shuffle_epi8(_mm_loadu_si128(words + word), big_endian);
      }
      data[i] += 64;
    }
#pragma GCC unroll 16
    for (int group = 0; group < 16; ++group) {
#pragma GCC unroll 2
      for (int i = 0; i < kLanes; ++i) {
        rounds(lanes[i], group);
        if (group < 12) schedule(lanes[i], group);
      }
    }
#pragma GCC unroll 2
    for (int i = 0; i < kLanes; ++i) {
      lanes[i].abef = _mm_add_epi32(lanes[i].abef, before[i].abef);
      lanes[i].cdgh = _mm_add_epi32(lanes[i].cdgh, before[i].cdgh);
    }
  }
}

__attribute__((target("sha,sse4.1,ssse3"))) void compress_single(std::uint32_t state[8],
                                                                 const std::uint8_t* data,
                                                                 std::size_t blocks) {
  Lane lanes[] = {load_state(state)};
  compress_lanes(lanes, {data}, blocks);
  store_state(lanes[0], state);
}

__attribute__((target("sha,sse4.1,ssse3"))) void compress_pair(std::uint32_t a[8], const std::uint8_t* a_data,
                                                               std::uint32_t b[8], const std::uint8_t* b_data,
                                                               std::size_t blocks) {
  Lane lanes[] = {load_state(a), load_state(b)};
  compress_lanes(lanes, {a_data, b_data}, blocks);
  store_state(lanes[0], a);
  store_state(lanes[1], b);
}

bool has_instructions() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  const bool sse41 = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_SSE4_1) != 0;
  return sse41 && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ebx & (1u << 29)) != 0;
}

}  // namespace

Sha256::Compress Sha256::accelerated() {
  // Asked once: in a virtual machine CPUID is a trap of microseconds.
  static const Compress chosen = has_instructions() ? compress_single : nullptr;
  return chosen;
}

Sha256::CompressPair Sha256::accelerated_pair() { return accelerated() != nullptr ? compress_pair : nullptr; }

#else

Sha256::Compress Sha256::accelerated() { return nullptr; }

Sha256::CompressPair Sha256::accelerated_pair() { return nullptr; }

#endif

}  // namespace weightcast
