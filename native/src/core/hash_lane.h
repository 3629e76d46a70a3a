// One digest in progress: its segments are read piece by piece, and what is read waits to be hashed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/file.h"
#include "core/sha256.h"

namespace weightcast {

/// `blocks` blocks of `block_bytes`, `stride_bytes` apart, from `offset` of a file on.
struct HashSegment {
  std::uint32_t file;
  std::uint64_t offset;
  std::uint64_t block_bytes;
  std::uint64_t stride_bytes;
  std::uint64_t blocks;
};

class HashLane {
 public:
  /// `files` live as long as the lane does.
  explicit HashLane(const std::vector<File>& files);

  /// Begins the digest `index`, whose segments these are.
  void begin(std::size_t index, std::span<const HashSegment> segments);
  /// A digest was begun and not finished.
  bool open() const { return open_; }
  std::size_t index() const { return index_; }
  /// Bytes that were read and wait.
  std::size_t ready() const { return end_ - begin_; }
  /// Reads on, where nothing waits; false at the end of the digest. @throws Error
  bool fill();
  /// Hashes `length` bytes of those that wait.
  void hash(std::size_t length);
  /// The same for two lanes at a time, which is faster.
  static void hash_both(HashLane& a, HashLane& b, std::size_t length);
  Digest finish();

 private:
  std::size_t read_block(const HashSegment& segment);
  std::size_t read_rows(const HashSegment& segment);

  const std::vector<File>& files_;
  std::vector<char> buffer_;
  std::span<const HashSegment> segments_;
  Sha256 state_;
  std::size_t index_ = 0;
  bool open_ = false;
  std::uint64_t block_ = 0;   // of the first segment that is left
  std::uint64_t offset_ = 0;  // in that block
  std::size_t begin_ = 0;     // of the buffer: what waits
  std::size_t end_ = 0;
};

}  // namespace weightcast
