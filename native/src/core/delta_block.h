// One block of a delta: where its elements changed and by how much. docs/delta-format.md is its description.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/zstd_api.h"

namespace weightcast {

/// Turns two versions of a block into bytes; keeps its buffers from block to block.
class DeltaBlockEncoder {
 public:
  /// `zstd` may be null.
  explicit DeltaBlockEncoder(const ZstdApi* zstd) : zstd_(zstd) {}

  /// `length` is a multiple of the element's bytes. Gives the number of changed elements; `bytes()` is empty
  /// when it is none, and may be longer than the block itself.
  std::size_t encode(const std::uint8_t* base, const std::uint8_t* now, std::size_t length,
                     unsigned element_bytes);
  std::span<const std::uint8_t> bytes() const { return bytes_; }

 private:
  void add_plane(std::span<const std::uint8_t> plane);

  const ZstdApi* zstd_;
  std::vector<std::uint32_t> positions_;
  std::vector<std::uint8_t> plane_;
  std::vector<std::uint8_t> bytes_;
};

/// Puts the changes of a block into the bytes of the version before.
class DeltaBlockDecoder {
 public:
  explicit DeltaBlockDecoder(const ZstdApi* zstd) : zstd_(zstd) {}

  /// Null when all went well, else what is wrong with `bytes`; `block` is then worth nothing.
  const char* apply(std::span<const std::uint8_t> bytes, std::size_t changes, unsigned element_bytes,
                    std::span<std::uint8_t> block);

 private:
  const char* take_plane(std::span<const std::uint8_t>& bytes, std::span<std::uint8_t> plane);

  const ZstdApi* zstd_;
  std::vector<std::uint8_t> planes_;
};

}  // namespace weightcast
