#include "core/write_plan.h"

#include <algorithm>

#include "core/error.h"

namespace weightcast {
namespace {

/// Small ranges are taken together up to this, and without digests large ones cut at its multiples.
constexpr std::uint64_t kUnitBytes = std::uint64_t(8) << 20;
constexpr std::uint64_t kMostBytes = std::uint64_t(1) << 62;

Error bad(const std::string& message) { return Error(code::kArgument, "write job: " + message); }

std::vector<WriteUnit> whole_ranges(const WritePlan& plan, const TargetExtent& extent) {
  std::vector<WriteUnit> units;
  std::uint64_t offset = 0;
  for (std::size_t i = extent.first_range; i < extent.ranges_end; ++i) {
    const auto length = plan.ranges[i].length;
    if (!units.empty() && units.back().length + length <= kUnitBytes) {
      units.back().length += length;
      units.back().ranges_end = i + 1;
    } else {
      units.push_back({offset, length, i, 0, i + 1});
    }
    offset += length;
  }
  // The largest first: no thread is left alone with one at the end.
  std::stable_sort(units.begin(), units.end(), [](const auto& a, const auto& b) { return a.length > b.length; });
  return units;
}

std::vector<WriteUnit> equal_parts(const WritePlan& plan, const TargetExtent& extent) {
  std::vector<WriteUnit> units;
  std::size_t range = extent.first_range;
  std::uint64_t range_begin = 0;  // in the target
  for (std::uint64_t offset = 0; offset < extent.size; offset += kUnitBytes) {
    while (offset - range_begin >= plan.ranges[range].length) range_begin += plan.ranges[range++].length;
    units.push_back(
        {offset, std::min(kUnitBytes, extent.size - offset), range, offset - range_begin, extent.ranges_end});
  }
  return units;
}

}  // namespace

std::vector<TargetExtent> target_extents(const WritePlan& plan) {
  if (plan.files.size() != plan.file_sizes.size()) throw bad("every file needs its size");
  if (plan.targets.size() != plan.target_ranges.size()) throw bad("every target needs its number of ranges");
  const Sources sources{plan.file_sizes, plan.devices.size(), plan.host_bytes.size()};
  std::vector<TargetExtent> extents;
  std::size_t range = 0;
  for (const auto count : plan.target_ranges) {
    TargetExtent extent{range, range + count, 0};
    if (count > plan.ranges.size() - range) throw bad("targets name more ranges than there are");
    for (; range < extent.ranges_end; ++range) {
      const auto& part = plan.ranges[range];
      expect_inside(part, range, sources);
      if (part.kind == RangeKind::device) {
        const auto length = plan.devices[part.source].length;
        if (part.offset > length || part.length > length - part.offset)
          throw bad("range " + std::to_string(range) + " reaches beyond the end of its device buffer");
      }
      if (part.length > kMostBytes - extent.size) throw bad("a target is larger than a file can be");
      extent.size += part.length;
    }
    extents.push_back(extent);
  }
  if (range != plan.ranges.size()) throw bad("ranges are left over after the last target");
  return extents;
}

std::vector<WriteUnit> cut_target(const WritePlan& plan, const TargetExtent& extent, bool in_order) {
  const WriteUnit whole{0, extent.size, extent.first_range, 0, extent.ranges_end};
  if (in_order || extent.size == 0) return {whole};
  return plan.digest ? whole_ranges(plan, extent) : equal_parts(plan, extent);
}

}  // namespace weightcast
