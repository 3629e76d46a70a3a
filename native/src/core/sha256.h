// SHA-256 (FIPS 180-4), with the processor's instructions where it has them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace weightcast {

using Digest = std::array<std::uint8_t, 32>;

class Sha256 {
 public:
  /// Adds `blocks` blocks of 64 bytes to the state.
  using Compress = void (*)(std::uint32_t state[8], const std::uint8_t* data, std::size_t blocks);

  /// Does so for two states at once: the instructions of one fill the latency of the other's.
  using CompressPair = void (*)(std::uint32_t a[8], const std::uint8_t* a_data, std::uint32_t b[8],
                                const std::uint8_t* b_data, std::size_t blocks);

  /// The fastest that this processor has.
  Sha256() : Sha256(best()) {}
  explicit Sha256(Compress compress);

  void update(const void* data, std::size_t length);
  /// Adds `length` bytes to each of two: quicker than one after the other.
  static void update_both(Sha256& a, const void* a_data, Sha256& b, const void* b_data, std::size_t length);
  Digest finish();

  static Compress portable();
  /// SHA-NI; null where the processor lacks it.
  static Compress accelerated();
  static CompressPair accelerated_pair();
  static Compress best();

 private:
  Compress compress_;
  std::uint32_t state_[8];
  std::uint8_t buffer_[64];
  std::uint64_t length_ = 0;
};

}  // namespace weightcast
