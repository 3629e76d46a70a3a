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

  /// The fastest that this processor has.
  Sha256() : Sha256(best()) {}
  explicit Sha256(Compress compress);

  void update(const void* data, std::size_t length);
  Digest finish();

  static Compress portable();
  /// SHA-NI; null where the processor lacks it.
  static Compress accelerated();
  static Compress best();

 private:
  Compress compress_;
  std::uint32_t state_[8];
  std::uint8_t buffer_[64];
  std::uint64_t length_ = 0;
};

}  // namespace weightcast
