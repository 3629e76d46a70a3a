// SHA-256 of many tensors of files, on several threads and two at a time on each, largest first.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/file.h"
#include "core/file_job.h"
#include "core/hash_lane.h"

namespace weightcast {

struct HashPlan {
  std::vector<std::string> files;
  std::vector<HashSegment> segments;
  /// Number of segments of each digest, in order.
  std::vector<std::uint32_t> digest_segments;
  unsigned threads = 0;
};

class HashJob : public FileJob<std::vector<Digest>> {
 public:
  using Result = std::vector<Digest>;

  static std::shared_ptr<HashJob> begin(HashPlan plan, Progress progress, Done<Result> done);

 protected:
  unsigned open() override;
  void work() override;
  Result finish() override;
  void release() noexcept override;

 private:
  HashJob(HashPlan plan, Progress progress, Done<Result> done);
  bool feed(HashLane& lane);

  HashPlan plan_;
  std::vector<std::size_t> first_segment_;
  std::vector<std::size_t> order_;  // digests, largest first
  std::vector<File> files_;
  std::vector<Digest> digests_;
  std::atomic<std::size_t> next_{0};
};

}  // namespace weightcast
