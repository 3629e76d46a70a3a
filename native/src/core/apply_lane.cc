#include "core/apply_lane.h"

#include <algorithm>

namespace weightcast {
namespace {

/// The parts of the two lanes of a thread fit into a core's second-level cache.
constexpr std::size_t kPartBytes = std::size_t(256) << 10;
/// Small tensors are left to the end: the disk then takes several of them at a time.
constexpr std::uint64_t kLeastToHandOver = std::uint64_t(1) << 20;

}  // namespace

ApplyLane::ApplyLane(DeltaApply& job) : job_(job), decoder_(job.plan_.zstd.get()), part_(kPartBytes) {}

void ApplyLane::begin(std::size_t pair) {
  pair_ = pair;
  state_ = Sha256();
  offset_ = handed_ = 0;
  length_ = hashed_ = 0;
  open_ = true;
}

bool ApplyLane::advance() {
  const auto& place = job_.plan_.places[pair_];
  if (length_ > 0) job_.targets_[place.target]->write(part_.data(), length_, place.offset + offset_);
  offset_ += length_;
  if (job_.plan_.sync) hand_over();
  length_ = part_length();
  hashed_ = 0;
  if (length_ > 0) make_part();
  return length_ > 0;
}

/// The disk works while the next parts are made.
void ApplyLane::hand_over() {
  const auto& place = job_.plan_.places[pair_];
  const bool ended = offset_ == job_.plan_.pairs[pair_].length;
  if (offset_ - handed_ < (ended ? kLeastToHandOver : TargetFile::kWritebackBytes)) return;
  job_.targets_[place.target]->start_writeback(place.offset + handed_, offset_ - handed_);
  handed_ = offset_;
}

/// Parts end where the target's pages do: to write a piece of a page costs as much as the page, and the file system
/// makes large pages of large aligned writes. No element is cut, also where tensors lie at odd places.
std::size_t ApplyLane::part_length() const {
  const auto in_target = job_.plan_.places[pair_].offset / 8 * 8 + offset_;
  const auto left = job_.plan_.pairs[pair_].length - offset_;
  return std::size_t(std::min<std::uint64_t>(left, kPartBytes - in_target % kPartBytes));
}

void ApplyLane::make_part() {
  for (std::size_t done = 0; done < length_;) {
    const auto in_block = (offset_ + done) % kDeltaBlockBytes;
    if (in_block == 0) open_block(offset_ + done);
    const auto length = std::min<std::size_t>(length_ - done, kDeltaBlockBytes - in_block);
    make_bytes(offset_ + done, {part_.data() + done, length});
    done += length;
  }
}

/// Of one block.
void ApplyLane::make_bytes(std::uint64_t offset, std::span<std::uint8_t> bytes) {
  const DiffPair& pair = job_.plan_.pairs[pair_];
  const DeltaReader& delta = *job_.delta_;
  const auto in_block = offset % kDeltaBlockBytes;
  if (block_.block.changes == DeltaBlock::kRaw) {
    return delta.file().read(bytes.data(), bytes.size(), block_.offset + in_block);
  }
  job_.files_[pair.base_file].read(bytes.data(), bytes.size(), pair.base_offset + offset);
  if (block_.block.changes == 0) return;
  decoder_.apply(bytes);
  if (in_block + bytes.size() < kDeltaBlockBytes && offset + bytes.size() < pair.length) return;
  if (const auto* wrong = decoder_.finish()) delta.refuse(std::string("a block has ") + wrong);
}

/// The changes of the block that begins here.
void ApplyLane::open_block(std::uint64_t offset) {
  const DiffPair& pair = job_.plan_.pairs[pair_];
  const DeltaReader& delta = *job_.delta_;
  block_ = delta.place(pair_, offset / kDeltaBlockBytes);
  const auto [block, place] = block_;
  if (block.changes == DeltaBlock::kRaw || block.changes == 0) return;
  stored_.resize(std::max<std::size_t>(stored_.size(), block.stored));
  delta.file().read(stored_.data(), block.stored, place);
  const auto length = std::min<std::uint64_t>(kDeltaBlockBytes, pair.length - offset);
  const auto* wrong = decoder_.begin({stored_.data(), block.stored}, block.changes, pair.element_bytes, length);
  if (wrong != nullptr) delta.refuse(std::string("a block has ") + wrong);
}

void ApplyLane::hash(std::size_t length) {
  state_.update(part_.data() + hashed_, length);
  hashed_ += length;
}

void ApplyLane::hash_both(ApplyLane& a, ApplyLane& b, std::size_t length) {
  Sha256::update_both(a.state_, a.part_.data() + a.hashed_, b.state_, b.part_.data() + b.hashed_, length);
  a.hashed_ += length;
  b.hashed_ += length;
}

void ApplyLane::finish() {
  job_.digests_[pair_] = state_.finish();
  open_ = false;
}

}  // namespace weightcast
