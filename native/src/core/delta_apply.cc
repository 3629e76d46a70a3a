#include "core/delta_apply.h"

#include "core/apply_lane.h"
#include "core/lane_pair.h"

namespace weightcast {

DeltaApply::DeltaApply(ApplyPlan plan, Progress progress, Done<std::vector<Digest>> done)
    : FileJob("wc-apply", plan.threads, std::move(progress), std::move(done)),
      plan_(std::move(plan)),
      digests_(plan_.pairs.size()) {}

std::shared_ptr<DeltaApply> DeltaApply::begin(ApplyPlan plan, Progress progress,
                                              Done<std::vector<Digest>> done) {
  auto job = std::shared_ptr<DeltaApply>(new DeltaApply(std::move(plan), std::move(progress), std::move(done)));
  job->start();
  return job;
}

unsigned DeltaApply::open() {
  files_ = open_files(plan_.files, plan_.file_sizes);
  std::vector<DeltaEntry> entries;
  for (const auto& pair : plan_.pairs) entries.push_back({pair.length, pair.element_bytes, pair.based()});
  delta_.emplace(plan_.delta_path, entries);
  if (delta_->codec() == DeltaCodec::zstd && plan_.zstd == nullptr) {
    throw Error(code::kZstdNotFound, plan_.delta_path + " is compressed with zstd, and libzstd.so.1 is not here",
                {{"path", plan_.delta_path}});
  }
  // The file says whether it is compressed, whatever is installed here.
  if (delta_->codec() == DeltaCodec::none) plan_.zstd.reset();
  for (const auto& target : plan_.targets) {
    auto& file = *targets_.emplace_back(std::make_unique<FreshFile>(target.path));
    file.preallocate(target.size);
    file.write(target.head.data(), target.head.size(), 0);
  }
  std::vector<ApplyQueue::Tensor> tensors;
  for (std::size_t i = 0; i < plan_.pairs.size(); ++i) {
    tensors.push_back({i, plan_.places[i].target, plan_.pairs[i].length});
  }
  std::erase_if(tensors, [](const auto& tensor) { return tensor.target == ApplyPlace::kNowhere; });
  queue_.emplace(tensors, targets_.size());
  return unsigned(std::clamp<std::size_t>(tensors.size(), 1, kMostThreads));
}

void DeltaApply::work() {
  ApplyLane a(*this), b(*this);
  std::size_t target = targets_.size();
  while (!stopping()) {
    const bool has_a = feed(a, target), has_b = feed(b, target);
    if (!has_a && !has_b) return;
    advance(hash_ready(a, has_a, b, has_b));
  }
}

/// Keeps a lane in work, with the next tensor where one has ended; false when none is left.
bool DeltaApply::feed(ApplyLane& lane, std::size_t& target) {
  if (lane.ready() > 0) return true;
  while (!stopping()) {
    if (lane.open()) {
      if (lane.advance()) return true;
      lane.finish();
    }
    const auto pair = queue_->take(target);
    if (!pair) return false;
    lane.begin(*pair);
  }
  return false;
}

std::vector<Digest> DeltaApply::finish() {
  for (const auto& file : files_) file.expect_unchanged();
  if (plan_.sync) {
    for (const auto& target : targets_) target->sync();
  }
  std::size_t kept = 0;
  try {
    for (; kept < targets_.size(); ++kept) targets_[kept]->keep();
  } catch (...) {
    for (std::size_t i = 0; i < kept; ++i) FreshFile::remove(plan_.targets[i].path);
    throw;
  }
  return std::move(digests_);
}

void DeltaApply::release() noexcept {
  files_.clear();
  delta_.reset();
  targets_.clear();
}

}  // namespace weightcast
