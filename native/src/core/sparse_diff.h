// The elements that changed, as indices and values in two spool files: what vLLM's sparse_nccl broadcasts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/diff_plan.h"
#include "core/file.h"
#include "core/file_job.h"
#include "core/fresh_file.h"
#include "core/piece_queue.h"

namespace weightcast {

struct SparsePlan : DiffPlan {
  /// A pair: above so many changed elements it is dense, and nothing of it is kept.
  std::vector<std::uint64_t> limits;
  std::string indices_path;
  std::string values_path;
  /// For all threads together; at least kLeastMemory.
  std::uint64_t memory_bytes;

  static constexpr std::uint64_t kLeastMemory = std::uint64_t(1) << 20;
  /// Indices are int32.
  static constexpr std::uint64_t kMostElements = (std::uint64_t(1) << 31) - 1;
};

/// The indices and the values of a pair are each one run of bytes in their file.
struct SparsePair {
  std::uint64_t changed = 0;  ///< when dense: as far as it was counted
  std::uint64_t indices_offset = 0;
  std::uint64_t values_offset = 0;
  bool dense = false;
};

class SparseDiff : public FileJob<std::vector<SparsePair>> {
 public:
  using Result = std::vector<SparsePair>;

  /// Compares on several threads. The spool files must not exist; they are removed unless all went well.
  static std::shared_ptr<SparseDiff> begin(SparsePlan plan, Progress progress, Done<Result> done);

 protected:
  unsigned open() override;
  void work() override;
  Result finish() override;
  void release() noexcept override;

 private:
  struct Workspace;

  SparseDiff(SparsePlan plan, Progress progress, Done<Result> done);
  void compare(const Piece& piece, Workspace& workspace) const;
  void append(const Piece& piece, const Workspace& workspace);

  SparsePlan plan_;
  std::vector<File> files_;
  std::size_t piece_bytes_ = 0;
  std::optional<PieceQueue> queue_;
  // Of the thread whose turn it is:
  std::optional<FreshFile> indices_, values_;
  std::uint64_t indices_end_ = 0, values_end_ = 0;
  std::vector<SparsePair> pairs_;
};

}  // namespace weightcast
