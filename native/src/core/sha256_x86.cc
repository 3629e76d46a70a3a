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

/// Four rounds: the words `w` of rounds 4·group … 4·group + 3.
WEIGHTCAST_SHA void rounds(__m128i& abef, __m128i& cdgh, __m128i w, int group) {
  __m128i wk = _mm_add_epi32(w, _mm_load_si128(reinterpret_cast<const __m128i*>(kSha256Rounds) + group));
  cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
  abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0e));
}

/// The next four words of the message schedule, from the sixteen before them.
WEIGHTCAST_SHA __m128i schedule(__m128i w0, __m128i w4, __m128i w8, __m128i w12) {
  const __m128i partial = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w4), _mm_alignr_epi8(w12, w8, 4));
  return _mm_sha256msg2_epu32(partial, w12);
}

__attribute__((target("sha,sse4.1,ssse3"))) void compress(std::uint32_t state[8], const std::uint8_t* data,
                                                          std::size_t blocks) {
  const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
  // The instructions want the state as (A,B,E,F) and (C,D,G,H), most significant word first.
  const __m128i dcba = _mm_loadu_si128(reinterpret_cast<const __m128i*>(state));
  const __m128i hgfe = _mm_loadu_si128(reinterpret_cast<const __m128i*>(state + 4));
  const __m128i cdab = _mm_shuffle_epi32(dcba, 0xb1);
  const __m128i efgh = _mm_shuffle_epi32(hgfe, 0x1b);
  __m128i abef = _mm_alignr_epi8(cdab, efgh, 8);
  __m128i cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);

  for (; blocks > 0; --blocks, data += 64) {
    const __m128i abef_before = abef;
    const __m128i cdgh_before = cdgh;
    const auto* words = reinterpret_cast<const __m128i*>(data);
    __m128i a = _mm_shuffle_epi8(_mm_loadu_si128(words), big_endian);
    __m128i b = _mm_shuffle_epi8(_mm_loadu_si128(words + 1), big_endian);
    __m128i c = _mm_shuffle_epi8(_mm_loadu_si128(words + 2), big_endian);
    __m128i d = _mm_shuffle_epi8(_mm_loadu_si128(words + 3), big_endian);
#pragma GCC unroll 4
    for (int group = 0; group < 12; group += 4) {
      rounds(abef, cdgh, a, group);
      a = schedule(a, b, c, d);
      rounds(abef, cdgh, b, group + 1);
      b = schedule(b, c, d, a);
      rounds(abef, cdgh, c, group + 2);
      c = schedule(c, d, a, b);
      rounds(abef, cdgh, d, group + 3);
      d = schedule(d, a, b, c);
    }
    rounds(abef, cdgh, a, 12);
    rounds(abef, cdgh, b, 13);
    rounds(abef, cdgh, c, 14);
    rounds(abef, cdgh, d, 15);
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }

  const __m128i feba = _mm_shuffle_epi32(abef, 0x1b);
  const __m128i dchg = _mm_shuffle_epi32(cdgh, 0xb1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_blend_epi16(feba, dchg, 0xf0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

}  // namespace

Sha256::Compress Sha256::accelerated() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  const bool sse41 = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_SSE4_1) != 0;
  const bool sha = __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ebx & (1u << 29)) != 0;
  return sse41 && sha ? compress : nullptr;
}

#else

Sha256::Compress Sha256::accelerated() { return nullptr; }

#endif

}  // namespace weightcast
