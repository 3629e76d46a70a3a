// One unit of a target in progress: its bytes are read piece by piece, hashed, and written.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/file.h"
#include "core/sha256.h"
#include "core/target_file.h"
#include "core/write_plan.h"

namespace weightcast {

/// What the lanes of a job share; it outlives them.
struct WriteShared {
  /// `stop_flag` outlives it.
  WriteShared(WritePlan job, const std::atomic<bool>& stop_flag) : plan(std::move(job)), stop(stop_flag) {}

  const WritePlan plan;
  const std::atomic<bool>& stop;
  std::vector<File> files;
  std::vector<Digest> digests;  ///< one a range; each lane writes those of its unit
  std::atomic<std::uint64_t> read_ns{0}, hash_ns{0}, write_ns{0}, sync_ns{0};  ///< summed over threads
};

class WriteLane {
 public:
  explicit WriteLane(WriteShared& shared);

  void begin(const WriteUnit& unit, TargetFile& target);
  /// A unit was begun and not finished.
  bool open() const { return target_ != nullptr; }
  /// Writes what was read and hashed, and reads on; false at the end of the unit. @throws Error
  bool advance();
  /// Bytes put into the target since the last call.
  std::uint64_t take_written();

  /// Bytes of one range that wait to be hashed.
  std::size_t ready() const;
  void hash(std::size_t length);
  /// The same for two lanes at a time, which is faster.
  static void hash_both(WriteLane& a, WriteLane& b, std::size_t length);

 private:
  struct Place {
    std::size_t range;
    std::uint64_t offset;
  };

  void hand_over();
  void fill();
  std::size_t read_some(std::size_t limit);
  std::size_t follow_file(std::size_t limit) const;
  void read_device(const Range& range, std::uint64_t offset, std::size_t length);
  void move_on(Place& place, std::uint64_t length) const;
  void hashed(std::size_t length);
  void finish_digests();

  WriteShared& shared_;
  const std::size_t capacity_;
  std::shared_ptr<char> buffer_;  // shared with a copy from a device that comes too late
  TargetFile* target_ = nullptr;
  WriteUnit unit_{};
  std::uint64_t left_ = 0;  // to read
  std::uint64_t at_ = 0;    // where the buffer goes in the target
  std::uint64_t handed_ = 0;  // of the unit, what lies before this in the target is on its way to the disk
  Place reading_{};
  Place hashing_{};
  Sha256 state_;
  std::size_t filled_ = 0;
  std::size_t hashed_ = 0;
  std::uint64_t written_ = 0;
};

}  // namespace weightcast
