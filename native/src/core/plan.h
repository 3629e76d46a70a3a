// What to send, as the caller says it, and where each byte goes on its way.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/device_buffers.h"

namespace weightcast {

enum class RangeKind : std::uint8_t { file = 0, device = 1, host = 2 };

struct Range {
  RangeKind kind;
  std::uint32_t source;  ///< index of the file or of the device buffer
  std::uint64_t offset;
  std::uint64_t length;
};

/// Sizes of the staging memory.
struct StagingSize {
  std::uint32_t slots;
  std::uint64_t slot_bytes;
  std::uint32_t pieces;
  std::uint64_t piece_bytes;

  bool operator==(const StagingSize&) const = default;
};

struct Plan {
  std::vector<std::string> files;
  std::vector<std::uint64_t> file_sizes;
  std::vector<Range> ranges;
  /// Number of ranges of each frame, in order.
  std::vector<std::uint32_t> frame_ranges;
  std::vector<BufferId> device_buffers;
  std::vector<std::uint8_t> host_bytes;
  StagingSize staging;
  int root;
};

/// How much there is to take ranges from.
struct Sources {
  std::span<const std::uint64_t> file_sizes;
  std::size_t device_buffers;  ///< which check their own bounds
  std::uint64_t host_bytes;
};

/// @throws Error(WC_NATIVE_ARGUMENT) when a range, the `index`-th, lies outside its source.
void expect_inside(const Range& range, std::size_t index, const Sources& sources);

/// Bytes that go to a place in pinned memory.
struct Read {
  RangeKind kind;  ///< file or host
  std::uint32_t source;
  std::uint64_t source_offset;
  std::uint64_t length;
  std::uint64_t piece_offset;
};

/// A stretch of a slot that passes through one piece of pinned memory.
struct Window {
  std::uint64_t slot_offset;
  std::uint64_t length;
  std::size_t first_read;
  std::size_t reads;
};

struct DeviceCopy {
  std::uint32_t source;
  std::uint64_t source_offset;
  std::uint64_t slot_offset;
  std::uint64_t length;
};

/// One broadcast: a place in its batch's slot.
struct FramePlace {
  std::uint64_t slot_offset;
  std::uint64_t length;
};

/// Consecutive frames that share a slot. The indices are where the batch ends; it begins where the one before
/// ends.
struct Batch {
  std::size_t frames_end;
  std::size_t windows_end;
  std::size_t device_copies_end;
  std::uint64_t bytes;  ///< payload up to the end of this batch
};

struct Layout {
  std::vector<Read> reads;
  std::vector<Window> windows;
  std::vector<DeviceCopy> device_copies;
  std::vector<FramePlace> frames;
  std::vector<Batch> batches;
};

/// Lays the plan out over slots and pieces; adjacent ranges of a file become one read.
/// @throws Error(WC_NATIVE_ARGUMENT) when the plan contradicts itself.
Layout lay_out(const Plan& plan);

}  // namespace weightcast
