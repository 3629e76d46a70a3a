#include "core/sha256.h"

#include <algorithm>
#include <cstring>

namespace weightcast {

Sha256::Compress Sha256::best() {
  static const Compress chosen = accelerated() != nullptr ? accelerated() : portable();
  return chosen;
}

Sha256::Sha256(Compress compress)
    : compress_(compress),
      state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19} {
}

void Sha256::update(const void* data, std::size_t length) {
  auto* bytes = static_cast<const std::uint8_t*>(data);
  const std::size_t held = length_ % 64;
  length_ += length;
  if (held > 0) {
    const std::size_t take = std::min(length, 64 - held);
    std::memcpy(buffer_ + held, bytes, take);
    bytes += take;
    length -= take;
    if (held + take < 64) return;
    compress_(state_, buffer_, 1);
  }
  if (const std::size_t blocks = length / 64; blocks > 0) {
    compress_(state_, bytes, blocks);
    bytes += blocks * 64;
    length -= blocks * 64;
  }
  if (length > 0) std::memcpy(buffer_, bytes, length);
}

void Sha256::update_both(Sha256& a, const void* a_data, Sha256& b, const void* b_data, std::size_t length) {
  static const CompressPair pair = accelerated_pair();
  auto* a_bytes = static_cast<const std::uint8_t*>(a_data);
  auto* b_bytes = static_cast<const std::uint8_t*>(b_data);
  std::size_t a_left = length, b_left = length;
  if (pair != nullptr && a.compress_ == accelerated() && b.compress_ == accelerated()) {
    // What ends a block that was begun comes first: from there on both are at a boundary, each at its own.
    const auto end_block = [](Sha256& hash, const std::uint8_t*& bytes, std::size_t& left) {
      const std::size_t take = std::min(left, (64 - hash.length_ % 64) % 64);
      hash.update(bytes, take);
      bytes += take;
      left -= take;
    };
    end_block(a, a_bytes, a_left);
    end_block(b, b_bytes, b_left);
    const std::size_t paired = std::min(a_left, b_left) / 64 * 64;
    pair(a.state_, a_bytes, b.state_, b_bytes, paired / 64);
    a.length_ += paired;
    b.length_ += paired;
    a_bytes += paired;
    b_bytes += paired;
    a_left -= paired;
    b_left -= paired;
  }
  a.update(a_bytes, a_left);
  b.update(b_bytes, b_left);
}

Digest Sha256::finish() {
  const std::uint64_t bits = length_ * 8;
  static constexpr std::uint8_t kPadding[64] = {0x80};
  const std::size_t held = length_ % 64;
  update(kPadding, held < 56 ? 56 - held : 120 - held);
  std::uint8_t size[8];
  for (int i = 0; i < 8; ++i) size[i] = std::uint8_t(bits >> (56 - 8 * i));
  update(size, sizeof size);
  Digest digest;
  for (int i = 0; i < 32; ++i) digest[i] = std::uint8_t(state_[i / 4] >> (24 - 8 * (i % 4)));
  return digest;
}

}  // namespace weightcast
