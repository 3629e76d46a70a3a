#include "core/hash_job.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>

#include "core/lane_pair.h"

namespace weightcast {
namespace {

void lower_priority() {
  // On Linux niceness belongs to the thread.
  (void)::setpriority(PRIO_PROCESS, id_t(::syscall(SYS_gettid)), 5);
}

}  // namespace

HashJob::HashJob(HashPlan plan, Progress progress, Done<Result> done)
    : FileJob("wc-sha256", plan.threads, std::move(progress), std::move(done)),
      plan_(std::move(plan)),
      digests_(plan_.digest_segments.size()) {}

std::shared_ptr<HashJob> HashJob::begin(HashPlan plan, Progress progress, Done<Result> done) {
  auto job = std::shared_ptr<HashJob>(new HashJob(std::move(plan), std::move(progress), std::move(done)));
  job->start();
  return job;
}

unsigned HashJob::open() {
  std::vector<std::uint64_t> sizes;
  std::size_t segment = 0;
  for (const auto count : plan_.digest_segments) {
    first_segment_.push_back(segment);
    std::uint64_t size = 0;
    for (std::size_t end = segment + count; segment < end; ++segment) {
      size += plan_.segments[segment].blocks * plan_.segments[segment].block_bytes;
    }
    sizes.push_back(size);
  }
  order_.resize(sizes.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::stable_sort(order_.begin(), order_.end(), [&](auto a, auto b) { return sizes[a] > sizes[b]; });
  for (const auto& path : plan_.files) files_.emplace_back(path);
  return unsigned(std::min<std::size_t>(order_.size(), ~0u));
}

void HashJob::work() {
  lower_priority();
  HashLane a(files_), b(files_);
  while (!stopping()) {
    const bool has_a = feed(a), has_b = feed(b);
    if (!has_a && !has_b) return;
    advance(hash_ready(a, has_a, b, has_b));
  }
}

/// Keeps a lane in work, with the next digest where one has ended; false when none is left.
bool HashJob::feed(HashLane& lane) {
  if (lane.ready() > 0) return true;
  while (!stopping()) {
    if (lane.open()) {
      if (lane.fill()) return true;
      digests_[lane.index()] = lane.finish();
    }
    const std::size_t next = next_++;
    if (next >= order_.size()) return false;
    const std::size_t index = order_[next];
    const std::span segments(plan_.segments);
    lane.begin(index, segments.subspan(first_segment_[index], plan_.digest_segments[index]));
  }
  return false;
}

HashJob::Result HashJob::finish() {
  for (const auto& file : files_) file.expect_unchanged();
  return std::move(digests_);
}

void HashJob::release() noexcept { files_.clear(); }

}  // namespace weightcast
