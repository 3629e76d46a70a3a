// The frame of a delta file: header, blocks one after another, index, end. docs/delta-format.md describes it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/file.h"
#include "core/fresh_file.h"
#include "core/sha256.h"

namespace weightcast {

inline constexpr std::size_t kDeltaBlockBytes = std::size_t(1) << 20;

enum class DeltaCodec : std::uint32_t { none = 0, zstd = 1 };

struct DeltaBlock {
  static constexpr std::uint32_t kRaw = 0xffffffff;

  std::uint32_t stored;   ///< bytes in the file
  std::uint32_t changes;  ///< elements, or kRaw: the block's new bytes themselves
};

/// The new bytes of a tensor.
struct DeltaEntry {
  std::uint64_t length;
  std::uint32_t element_bytes;
  bool based;  ///< on a tensor of the version before; else all its blocks are raw
};

inline std::uint64_t delta_blocks(std::uint64_t length) {
  return length / kDeltaBlockBytes + (length % kDeltaBlockBytes != 0 ? 1 : 0);
}

/// Writes one from front to back. @throws Error(WC_FILE_WRITE)
class DeltaWriter {
 public:
  DeltaWriter(const std::string& path, DeltaCodec codec, std::vector<DeltaEntry> entries);

  /// The blocks of the entries, in order.
  void add(const DeltaBlock& block, std::span<const std::uint8_t> bytes);
  struct Written {
    std::uint64_t size;
    Digest digest;
  };
  /// All blocks were added: writes the index. The file stays.
  Written finish(bool sync);

 private:
  void put(const void* bytes, std::size_t length);

  FreshFile file_;
  std::vector<DeltaEntry> entries_;
  std::vector<DeltaBlock> blocks_;
  std::uint64_t end_ = 0;
  Sha256 digest_;
};

/// One that was opened and whose index agrees with what is expected.
class DeltaReader {
 public:
  /// @throws Error WC_DELTA_INVALID, WC_FILE_READ
  DeltaReader(const std::string& path, std::span<const DeltaEntry> expected);

  DeltaCodec codec() const { return codec_; }
  const File& file() const { return file_; }
  struct Place {
    DeltaBlock block;
    std::uint64_t offset;
  };
  Place place(std::size_t entry, std::uint64_t block) const;
  [[noreturn]] void refuse(const std::string& what) const;

 private:
  void read_index(std::uint64_t offset, std::uint64_t length, std::span<const DeltaEntry> expected);

  File file_;
  DeltaCodec codec_ = DeltaCodec::none;
  std::vector<std::uint64_t> first_block_;  // of each entry
  std::vector<Place> places_;
};

}  // namespace weightcast
