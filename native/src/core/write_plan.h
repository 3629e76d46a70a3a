// Files to write, as the caller says it, and how the work on one is cut.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/communicator.h"
#include "core/plan.h"

namespace weightcast {

/// A device buffer, with whoever may read it.
struct DeviceSource {
  std::shared_ptr<Communicator> communicator;
  BufferId buffer;
  std::uint64_t length;
};

struct WritePlan {
  std::vector<std::string> files;
  std::vector<std::uint64_t> file_sizes;
  std::vector<Range> ranges;
  std::vector<DeviceSource> devices;
  std::vector<std::uint8_t> host_bytes;
  std::vector<std::string> targets;
  /// Number of ranges of each target, in order; they follow each other from its first byte on.
  std::vector<std::uint32_t> target_ranges;
  bool digest;  ///< SHA-256 of each range
  bool sync;    ///< each target is on stable storage before it counts as written
  unsigned threads;
};

/// The ranges of one target.
struct TargetExtent {
  std::size_t first_range;
  std::size_t ranges_end;
  std::uint64_t size;
};

/// Consecutive bytes of a target, for one lane.
struct WriteUnit {
  std::uint64_t offset;  ///< in the target
  std::uint64_t length;
  std::size_t range;  ///< where it begins, and
  std::uint64_t range_offset;
  std::size_t ranges_end;  ///< the range that ends it, and with digests belongs to it whole, is before this
};

/// @throws Error(WC_NATIVE_ARGUMENT) when the plan contradicts itself.
std::vector<TargetExtent> target_extents(const WritePlan& plan);

/// In the order in which to begin them; never none. With digests no range is cut. `in_order`: the target takes
/// its bytes from the first to the last, so that it is one unit.
std::vector<WriteUnit> cut_target(const WritePlan& plan, const TargetExtent& extent, bool in_order);

}  // namespace weightcast
