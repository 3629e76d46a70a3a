// A delta file between two versions, made on several threads; its bytes do not depend on their number.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/delta_file.h"
#include "core/diff_plan.h"
#include "core/file_job.h"
#include "core/piece_queue.h"
#include "core/zstd_api.h"

namespace weightcast {

struct EncodePlan : DiffPlan {
  std::string delta_path;
  bool sync;
  /// Null: nothing is compressed.
  std::shared_ptr<const ZstdApi> zstd;
};

struct Encoded {
  DeltaWriter::Written file;
  /// Of each pair.
  std::vector<std::uint64_t> stored, changed;
};

class DeltaEncode : public FileJob<Encoded> {
 public:
  static std::shared_ptr<DeltaEncode> begin(EncodePlan plan, Progress progress, Done<Encoded> done);

 protected:
  unsigned open() override;
  void work() override;
  Encoded finish() override;
  void release() noexcept override;

 private:
  DeltaEncode(EncodePlan plan, Progress progress, Done<Encoded> done);

  EncodePlan plan_;
  std::vector<File> files_;
  std::optional<PieceQueue> queue_;
  // Of the thread whose turn it is:
  std::optional<DeltaWriter> writer_;
  Encoded encoded_;
};

}  // namespace weightcast
