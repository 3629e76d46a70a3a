#include "core/apply_lane.h"

#include <algorithm>

namespace weightcast {

ApplyLane::ApplyLane(DeltaApply& job) : job_(job), decoder_(job.plan_.zstd.get()), block_(kDeltaBlockBytes) {}

void ApplyLane::begin(std::size_t pair) {
  pair_ = pair;
  state_ = Sha256();
  offset_ = 0;
  length_ = hashed_ = 0;
  open_ = true;
}

bool ApplyLane::advance() {
  const auto& place = job_.plan_.places[pair_];
  if (length_ > 0) job_.targets_[place.target]->write(block_.data(), length_, place.offset + offset_);
  offset_ += length_;
  const auto left = job_.plan_.pairs[pair_].length - offset_;
  length_ = std::size_t(std::min<std::uint64_t>(kDeltaBlockBytes, left));
  hashed_ = 0;
  if (length_ > 0) make_block();
  return length_ > 0;
}

void ApplyLane::make_block() {
  const DiffPair& pair = job_.plan_.pairs[pair_];
  const DeltaReader& delta = *job_.delta_;
  const auto [block, place] = delta.place(pair_, offset_ / kDeltaBlockBytes);
  if (block.changes == DeltaBlock::kRaw) return delta.file().read(block_.data(), length_, place);
  job_.files_[pair.base_file].read(block_.data(), length_, pair.base_offset + offset_);
  if (block.changes == 0) return;
  stored_.resize(std::max<std::size_t>(stored_.size(), block.stored));
  delta.file().read(stored_.data(), block.stored, place);
  const auto* wrong = decoder_.apply({stored_.data(), block.stored}, block.changes, pair.element_bytes,
                                     {block_.data(), length_});
  if (wrong != nullptr) delta.refuse(std::string("a block has ") + wrong);
}

void ApplyLane::hash(std::size_t length) {
  state_.update(block_.data() + hashed_, length);
  hashed_ += length;
}

void ApplyLane::hash_both(ApplyLane& a, ApplyLane& b, std::size_t length) {
  Sha256::update_both(a.state_, a.block_.data() + a.hashed_, b.state_, b.block_.data() + b.hashed_, length);
  a.hashed_ += length;
  b.hashed_ += length;
}

void ApplyLane::finish() {
  job_.digests_[pair_] = state_.finish();
  open_ = false;
}

}  // namespace weightcast
