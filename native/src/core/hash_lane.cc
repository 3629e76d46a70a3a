#include "core/hash_lane.h"

#include <algorithm>
#include <cstring>

namespace weightcast {
namespace {

/// The buffers of the two lanes of a thread fit into a core's second-level cache.
constexpr std::size_t kBufferBytes = std::size_t(256) << 10;
/// Below this, the bytes between two blocks are read and skipped: cheaper than a call a block.
constexpr std::uint64_t kWidestGap = 64 << 10;

}  // namespace

HashLane::HashLane(const std::vector<File>& files) : files_(files), buffer_(kBufferBytes) {}

void HashLane::begin(std::size_t index, std::span<const HashSegment> segments) {
  index_ = index;
  segments_ = segments;
  state_ = Sha256();
  block_ = offset_ = 0;
  begin_ = end_ = 0;
  open_ = true;
}

bool HashLane::fill() {
  begin_ = end_ = 0;
  while (end_ == 0 && !segments_.empty()) {
    const HashSegment& segment = segments_.front();
    if (block_ == segment.blocks || segment.block_bytes == 0) {
      segments_ = segments_.subspan(1);
      block_ = 0;
      continue;
    }
    const bool rows = segment.blocks > 1 && segment.stride_bytes <= buffer_.size() &&
                      segment.stride_bytes - segment.block_bytes <= kWidestGap;
    end_ = rows ? read_rows(segment) : read_block(segment);
  }
  return end_ > 0;
}

/// The next bytes of one block.
std::size_t HashLane::read_block(const HashSegment& segment) {
  const auto take = std::size_t(std::min<std::uint64_t>(buffer_.size(), segment.block_bytes - offset_));
  files_[segment.file].read(buffer_.data(), take,
                            segment.offset + block_ * segment.stride_bytes + offset_);
  offset_ += take;
  if (offset_ == segment.block_bytes) {
    offset_ = 0;
    ++block_;
  }
  return take;
}

/// Several blocks with the gaps between them, which are closed.
std::size_t HashLane::read_rows(const HashSegment& segment) {
  const std::uint64_t bytes = segment.block_bytes, stride = segment.stride_bytes;
  const auto take = std::min((buffer_.size() - bytes) / stride + 1, segment.blocks - block_);
  files_[segment.file].read(buffer_.data(), (take - 1) * stride + bytes, segment.offset + block_ * stride);
  for (std::uint64_t row = 1; row < take && stride != bytes; ++row) {
    std::memmove(buffer_.data() + row * bytes, buffer_.data() + row * stride, bytes);
  }
  block_ += take;
  return take * bytes;
}

void HashLane::hash(std::size_t length) {
  state_.update(buffer_.data() + begin_, length);
  begin_ += length;
}

void HashLane::hash_both(HashLane& a, HashLane& b, std::size_t length) {
  Sha256::update_both(a.state_, a.buffer_.data() + a.begin_, b.state_, b.buffer_.data() + b.begin_, length);
  a.begin_ += length;
  b.begin_ += length;
}

Digest HashLane::finish() {
  open_ = false;
  return state_.finish();
}

}  // namespace weightcast
