// New files from those of the version before and a delta, with a SHA-256 of each tensor as its bytes pass:
// on several threads, two tensors at a time on each.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/apply_queue.h"
#include "core/delta_file.h"
#include "core/diff_plan.h"
#include "core/file_job.h"
#include "core/fresh_file.h"
#include "core/zstd_api.h"

namespace weightcast {

/// A file to create: these bytes at its beginning, and tensors behind them.
struct ApplyTarget {
  std::string path;
  std::vector<std::uint8_t> head;
  std::uint64_t size;
};

struct ApplyPlace {
  /// For a target: somebody else has put the tensor where it belongs, nothing is made of it, and its digest is all zero.
  static constexpr std::uint32_t kNowhere = 0xffffffff;

  std::uint32_t target;
  std::uint64_t offset;
};

struct ApplyPlan : DiffPlan {
  /// Where each pair's new bytes go; `new_file` and `new_offset` of the pairs mean nothing.
  std::vector<ApplyPlace> places;
  std::vector<ApplyTarget> targets;
  std::string delta_path;
  bool sync;
  /// Null: a delta with compression is refused.
  std::shared_ptr<const ZstdApi> zstd;
};

class ApplyLane;

class DeltaApply : public FileJob<std::vector<Digest>> {
 public:
  /// The targets must not exist; they are removed unless all goes well.
  static std::shared_ptr<DeltaApply> begin(ApplyPlan plan, Progress progress, Done<std::vector<Digest>> done);

 protected:
  unsigned open() override;
  void work() override;
  std::vector<Digest> finish() override;
  void release() noexcept override;

 private:
  friend class ApplyLane;

  DeltaApply(ApplyPlan plan, Progress progress, Done<std::vector<Digest>> done);
  bool feed(ApplyLane& lane, std::size_t& target);

  ApplyPlan plan_;
  std::vector<File> files_;
  std::optional<DeltaReader> delta_;
  std::vector<std::unique_ptr<FreshFile>> targets_;
  std::optional<ApplyQueue> queue_;
  std::vector<Digest> digests_;
};

}  // namespace weightcast
