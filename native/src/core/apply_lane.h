// One tensor of a delta being applied: part by part it is read, changed, hashed and written.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/delta_apply.h"
#include "core/delta_block.h"
#include "core/sha256.h"

namespace weightcast {

class ApplyLane {
 public:
  /// `job` lives as long as the lane does.
  explicit ApplyLane(DeltaApply& job);

  void begin(std::size_t pair);
  /// A tensor was begun and not finished.
  bool open() const { return open_; }
  /// Writes the part that was hashed and makes the next; false at the tensor's end. @throws Error
  bool advance();
  /// Writes down its digest.
  void finish();

  /// Bytes that wait to be hashed.
  std::size_t ready() const { return length_ - hashed_; }
  void hash(std::size_t length);
  static void hash_both(ApplyLane& a, ApplyLane& b, std::size_t length);

 private:
  void hand_over();
  std::size_t part_length() const;
  void make_part();
  void make_bytes(std::uint64_t offset, std::span<std::uint8_t> bytes);
  void open_block(std::uint64_t offset);

  DeltaApply& job_;
  DeltaBlockDecoder decoder_;
  std::vector<std::uint8_t> part_, stored_;
  Sha256 state_;
  DeltaReader::Place block_{};
  std::size_t pair_ = 0;
  bool open_ = false;
  std::uint64_t offset_ = 0;  // of the part, in the tensor
  std::uint64_t handed_ = 0;  // what lies before this in the tensor is on its way to the disk
  std::size_t length_ = 0;    // of the part
  std::size_t hashed_ = 0;
};

}  // namespace weightcast
