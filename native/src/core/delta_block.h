// One block of a delta: where its elements changed and by how much. docs/delta-format.md is its description.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/zstd_api.h"

namespace weightcast {

/// Turns two versions of a block into bytes; keeps its buffers from block to block.
class DeltaBlockEncoder {
 public:
  /// `zstd` may be null: nothing is compressed.
  explicit DeltaBlockEncoder(const ZstdApi* zstd);

  /// `length` is a multiple of the element's bytes. Gives the number of changed elements; `bytes()` is empty
  /// when it is none, and may be longer than the block itself.
  std::size_t encode(const std::uint8_t* base, const std::uint8_t* now, std::size_t length,
                     unsigned element_bytes);
  std::span<const std::uint8_t> bytes() const { return bytes_; }

 private:
  void add_plane(std::span<const std::uint8_t> plane);

  const ZstdApi* zstd_;
  std::optional<ZstdCompressor> compressor_;
  std::vector<std::uint32_t> positions_;
  std::vector<std::uint8_t> plane_;
  std::vector<std::uint8_t> bytes_;
};

/// Puts the changes of a block into the bytes of the version before, part by part: so much at a time as the caller
/// holds in a core's cache. What is wrong with a delta is told as text, and null when nothing is; the parts are then
/// worth nothing.
class DeltaBlockDecoder {
 public:
  /// `zstd` may be null: what is compressed is refused.
  explicit DeltaBlockDecoder(const ZstdApi* zstd);

  /// A block of `length` bytes, of whose elements so many changed; `bytes` are not needed afterwards.
  const char* begin(std::span<const std::uint8_t> bytes, std::size_t changes, unsigned element_bytes,
                    std::size_t length);
  /// The next bytes of the block: whole elements.
  void apply(std::span<std::uint8_t> part);
  /// All parts have been given.
  const char* finish() const;

 private:
  const char* take_plane(std::span<const std::uint8_t>& bytes, std::span<std::uint8_t> plane);
  template <class Element>
  void add(std::span<std::uint8_t> part);
  std::size_t gap(std::size_t change) const;

  std::optional<ZstdDecompressor> decompressor_;
  std::vector<std::uint8_t> planes_;
  std::size_t changes_ = 0;
  std::size_t gap_planes_ = 0;
  unsigned element_bytes_ = 1;
  std::size_t done_ = 0;    // elements of the parts so far
  std::size_t change_ = 0;  // the next one,
  std::size_t at_ = 0;      // and its element
};

}  // namespace weightcast
