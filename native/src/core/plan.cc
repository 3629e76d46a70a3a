#include "core/plan.h"

#include <algorithm>

#include "core/error.h"

namespace weightcast {
namespace {

/// Frames begin on a boundary that the device's vector loads and memory transactions like.
constexpr std::uint64_t kFrameAlignment = 128;

Error bad(const std::string& message) { return Error(code::kArgument, "plan: " + message); }

class LayoutBuilder {
 public:
  explicit LayoutBuilder(const Plan& plan)
      : plan_(plan), sources_{plan.file_sizes, plan.device_buffers.size(), plan.host_bytes.size()} {
    layout_.frames.reserve(plan.frame_ranges.size());
  }

  Layout build() {
    std::size_t range = 0;
    for (std::size_t frame = 0; frame < plan_.frame_ranges.size(); ++frame) {
      const std::size_t end = range + plan_.frame_ranges[frame];
      if (end > plan_.ranges.size()) throw bad("frames name more ranges than there are");
      add_frame(frame, range, end);
      range = end;
    }
    if (range != plan_.ranges.size()) throw bad("ranges are left over after the last frame");
    if (!layout_.frames.empty()) close_batch();
    return std::move(layout_);
  }

 private:
  void add_frame(std::size_t frame, std::size_t begin, std::size_t end) {
    std::uint64_t length = 0;
    for (std::size_t i = begin; i < end; ++i) {
      expect_inside(plan_.ranges[i], i, sources_);
      length += plan_.ranges[i].length;
      if (length > plan_.staging.slot_bytes) {
        throw bad("frame " + std::to_string(frame) + " is larger than a slot of " +
                  std::to_string(plan_.staging.slot_bytes) + " bytes");
      }
    }
    std::uint64_t at = (used_ + kFrameAlignment - 1) / kFrameAlignment * kFrameAlignment;
    if (at > plan_.staging.slot_bytes || length > plan_.staging.slot_bytes - at) {
      close_batch();
      at = 0;
    }
    layout_.frames.push_back({at, length});
    for (std::size_t i = begin; i < end; ++i) {
      add_range(plan_.ranges[i], at);
      at += plan_.ranges[i].length;
    }
    used_ = at;
    payload_ += length;
  }

  void add_range(const Range& range, std::uint64_t slot_offset) {
    if (range.length == 0) return;
    if (range.kind == RangeKind::device) {
      layout_.device_copies.push_back({range.source, range.offset, slot_offset, range.length});
      window_open_ = false;
      return;
    }
    for (std::uint64_t done = 0; done < range.length;) {
      Window& window = window_at(slot_offset + done);
      const std::uint64_t piece_offset = slot_offset + done - window.slot_offset;
      const std::uint64_t take = std::min(range.length - done, plan_.staging.piece_bytes - piece_offset);
      add_read(window, {range.kind, range.source, range.offset + done, take, piece_offset});
      window.length = piece_offset + take;
      done += take;
    }
  }

  /// The open window when it still has room at this place of the slot, else a new one.
  Window& window_at(std::uint64_t slot_offset) {
    if (window_open_ && slot_offset - layout_.windows.back().slot_offset < plan_.staging.piece_bytes) {
      return layout_.windows.back();
    }
    layout_.windows.push_back({slot_offset, 0, layout_.reads.size(), 0});
    window_open_ = true;
    return layout_.windows.back();
  }

  void add_read(Window& window, const Read& read) {
    if (window.reads > 0) {
      Read& last = layout_.reads.back();
      if (last.kind == read.kind && last.source == read.source &&
          last.piece_offset + last.length == read.piece_offset &&
          last.source_offset + last.length == read.source_offset) {
        last.length += read.length;
        return;
      }
    }
    layout_.reads.push_back(read);
    ++window.reads;
  }

  void close_batch() {
    layout_.batches.push_back(
        {layout_.frames.size(), layout_.windows.size(), layout_.device_copies.size(), payload_});
    used_ = 0;
    window_open_ = false;
  }

  const Plan& plan_;
  const Sources sources_;
  Layout layout_;
  std::uint64_t used_ = 0;
  std::uint64_t payload_ = 0;
  bool window_open_ = false;
};

}  // namespace

void expect_inside(const Range& range, std::size_t index, const Sources& sources) {
  const auto name = "range " + std::to_string(index);
  std::uint64_t size = 0;
  switch (range.kind) {
    case RangeKind::file:
      if (range.source >= sources.file_sizes.size()) throw bad(name + " names no file");
      size = sources.file_sizes[range.source];
      break;
    case RangeKind::device:
      if (range.source >= sources.device_buffers) throw bad(name + " names no device buffer");
      return;
    case RangeKind::host:
      size = sources.host_bytes;
      break;
    default:
      throw bad(name + " has no such kind");
  }
  if (range.offset > size || range.length > size - range.offset) {
    throw bad(name + " reaches beyond the end of its source");
  }
}

Layout lay_out(const Plan& plan) {
  const auto& staging = plan.staging;
  if (staging.slots < 2) throw bad("at least two slots are needed");
  if (staging.pieces < 2 || staging.piece_bytes == 0) throw bad("at least two pieces are needed");
  if (plan.files.size() != plan.file_sizes.size()) throw bad("every file needs its size");
  return LayoutBuilder(plan).build();
}

}  // namespace weightcast
