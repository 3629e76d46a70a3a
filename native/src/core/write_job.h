// Writes files from ranges of others, of devices and of host memory, several at a time, with a SHA-256 of each
// range as the bytes pass.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "core/file_job.h"
#include "core/write_lane.h"
#include "core/write_queue.h"

namespace weightcast {

struct WriteStats {
  std::uint64_t targets;
  std::uint64_t bytes;
  double elapsed_ms;
  double read_ms, hash_ms, write_ms, sync_ms;  ///< summed over threads
};

struct Written {
  std::vector<Digest> digests;
  WriteStats stats;
};

class WriteJob : public FileJob<Written> {
 public:
  /// Whatever the end, the targets that were created stay, and by then are closed, but for those that a call
  /// still hangs in. @throws Error(WC_NATIVE_ARGUMENT) when the plan contradicts itself
  static std::shared_ptr<WriteJob> begin(WritePlan plan, Progress progress, Done<Written> done);

 protected:
  unsigned open() override;
  void work() override;
  Written finish() override;
  void release() noexcept override;

 private:
  WriteJob(WritePlan plan, Progress progress, Done<Written> done);
  bool feed(WriteLane& lane, std::optional<std::size_t>& target, std::size_t& mine);
  void complete(std::unique_ptr<TargetFile> file);
  void close(TargetFile& file);

  WriteShared shared_;
  WriteQueue queue_;
  Clock::time_point since_ = Clock::now();
  std::atomic<unsigned> syncing_{0};
};

}  // namespace weightcast
