// Every byte of every frame has exactly one place, whatever the sizes of slots and pieces.
#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/plan.h"
#include "core_check.h"

namespace {

using namespace weightcast;

constexpr std::uint64_t kFileBytes = 1 << 20;

Plan make_plan(unsigned seed, std::uint64_t slot_bytes, std::uint64_t piece_bytes) {
  Plan plan;
  plan.files = {"a", "b"};
  plan.file_sizes = {kFileBytes, kFileBytes};
  plan.device_buffers = {1};
  plan.host_bytes.resize(100);
  plan.staging = {.slots = 2, .slot_bytes = slot_bytes, .pieces = 2, .piece_bytes = piece_bytes};
  plan.root = 0;
  std::uint32_t random = seed;
  auto below = [&random](std::uint32_t limit) {
    random = random * 1664525 + 1013904223;
    return (random >> 8) % limit;
  };
  std::uint64_t next = 0;  // files are mostly read in order, as tensors are
  for (int frame = 0; frame < 60; ++frame) {
    const auto count = below(5);
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto kind = below(8);
      const std::uint64_t length = below(3) == 0 ? below(200) : below(5) * 128;
      if (kind == 0) {
        plan.ranges.push_back({RangeKind::device, 0, below(1000), length});
      } else if (kind == 1) {
        plan.ranges.push_back({RangeKind::host, 0, below(50), length % 50});
      } else {
        plan.ranges.push_back({RangeKind::file, below(10) == 0 ? 1u : 0u, next, length});
        next += length;
      }
    }
    plan.frame_ranges.push_back(count);
  }
  return plan;
}

/// A byte of a source, as a number.
std::uint64_t name(RangeKind kind, std::uint32_t source, std::uint64_t offset) {
  return (std::uint64_t(kind) + 1) << 60 | std::uint64_t(source) << 50 | offset;
}

std::vector<std::uint64_t> bytes_as_planned(const Plan& plan) {
  std::vector<std::uint64_t> bytes;
  for (const auto& range : plan.ranges) {
    for (std::uint64_t i = 0; i < range.length; ++i)
      bytes.push_back(name(range.kind, range.source, range.offset + i));
  }
  return bytes;
}

/// Carries the layout out on an image of the slots.
std::vector<std::uint64_t> bytes_as_laid_out(const Plan& plan, const Layout& layout) {
  std::vector<std::uint64_t> bytes;
  std::size_t window = 0, device_copy = 0, frame = 0;
  for (const auto& batch : layout.batches) {
    std::vector<std::uint64_t> slot(plan.staging.slot_bytes);
    for (; window < batch.windows_end; ++window) {
      const auto& target = layout.windows[window];
      CORE_CHECK(target.length <= plan.staging.piece_bytes);
      CORE_CHECK(target.slot_offset + target.length <= plan.staging.slot_bytes);
      std::vector<std::uint64_t> piece(plan.staging.piece_bytes);
      for (std::size_t i = target.first_read; i < target.first_read + target.reads; ++i) {
        const auto& read = layout.reads[i];
        CORE_CHECK(read.piece_offset + read.length <= target.length);
        for (std::uint64_t b = 0; b < read.length; ++b) {
          piece[read.piece_offset + b] = name(read.kind, read.source, read.source_offset + b);
        }
      }
      std::copy_n(piece.begin(), target.length, slot.begin() + long(target.slot_offset));
    }
    for (; device_copy < batch.device_copies_end; ++device_copy) {
      const auto& copy = layout.device_copies[device_copy];
      for (std::uint64_t b = 0; b < copy.length; ++b) {
        slot[copy.slot_offset + b] = name(RangeKind::device, copy.source, copy.source_offset + b);
      }
    }
    for (; frame < batch.frames_end; ++frame) {
      const auto& place = layout.frames[frame];
      CORE_CHECK(place.slot_offset + place.length <= plan.staging.slot_bytes);
      const auto begin = slot.begin() + long(place.slot_offset);
      bytes.insert(bytes.end(), begin, begin + long(place.length));
    }
    CORE_CHECK(batch.bytes == bytes.size());
  }
  CORE_CHECK(frame == plan.frame_ranges.size());
  return bytes;
}

void check_refused(const Plan& plan) {
  try {
    lay_out(plan);
  } catch (const Error& error) {
    CORE_CHECK(error.is(code::kArgument));
    return;
  }
  CORE_CHECK(!"the plan was refused");
}

}  // namespace

int main() {
  for (unsigned seed = 1; seed < 200; ++seed) {
    for (const std::uint64_t slot_bytes : {2048, 5000, 100'000}) {
      for (const std::uint64_t piece_bytes : {64, 1000, 4096}) {
        const auto plan = make_plan(seed, slot_bytes, piece_bytes);
        CORE_CHECK(bytes_as_laid_out(plan, lay_out(plan)) == bytes_as_planned(plan));
      }
    }
  }

  // Tensors that follow each other in a file are one read, though each is a frame of its own.
  Plan adjacent = make_plan(1, 1 << 20, 1 << 20);
  adjacent.ranges.clear();
  adjacent.frame_ranges.assign(1000, 1);
  for (std::uint64_t i = 0; i < 1000; ++i) adjacent.ranges.push_back({RangeKind::file, 0, i * 256, 256});
  CORE_CHECK(lay_out(adjacent).reads.size() == 1);

  Plan wraps = make_plan(1, 1 << 20, 1 << 20);
  wraps.ranges = {{RangeKind::file, 0, ~std::uint64_t{0}, 2}};
  wraps.frame_ranges = {1};
  check_refused(wraps);
  wraps.ranges = {{RangeKind::device, 0, 0, ~std::uint64_t{0}}};
  check_refused(wraps);
  return 0;
}
