#include "core/write_job.h"

#include <algorithm>

#include "core/lane_pair.h"
#include "core/stopwatch.h"

namespace weightcast {
namespace {

/// So many threads wait for the disk at a time, beside those that read, hash and write.
constexpr unsigned kMostSyncing = 8;

}  // namespace

WriteJob::WriteJob(WritePlan plan, Progress progress, Done<Written> done)
    : FileJob("wc-write", plan.threads, std::move(progress), std::move(done)),
      shared_(std::move(plan), stop_flag()),
      queue_(shared_.plan) {}

std::shared_ptr<WriteJob> WriteJob::begin(WritePlan plan, Progress progress, Done<Written> done) {
  auto job = std::shared_ptr<WriteJob>(new WriteJob(std::move(plan), std::move(progress), std::move(done)));
  job->start();
  return job;
}

unsigned WriteJob::open() {
  const auto& plan = shared_.plan;
  if (plan.digest) shared_.digests.resize(plan.ranges.size());
  for (std::size_t i = 0; i < plan.files.size() && !stopping(); ++i) {
    shared_.files.emplace_back(plan.files[i]).expect_size(plan.file_sizes[i]);
  }
  return unsigned(std::min<std::size_t>(queue_.most_threads(), ~0u));
}

void WriteJob::work() {
  WriteLane a(shared_), b(shared_);
  std::optional<std::size_t> a_target, b_target;
  std::size_t mine = ~std::size_t{0};
  while (!stopping()) {
    const bool has_a = feed(a, a_target, mine);
    const bool has_b = shared_.plan.digest && feed(b, b_target, mine);
    if (!has_a && !has_b) return;
    hash_ready(a, has_a, b, has_b);
  }
}

/// Keeps a lane in work until it has something to hash; false when nothing is left to do.
bool WriteJob::feed(WriteLane& lane, std::optional<std::size_t>& target, std::size_t& mine) {
  while (!stopping()) {
    if (lane.ready() > 0) return true;
    if (lane.open()) {
      const bool more = lane.advance();
      advance(lane.take_written());
      if (!more) complete(queue_.finish(*target));
      continue;
    }
    const auto task = queue_.take(mine);
    if (!task) return false;
    target = task->target;
    lane.begin(task->unit, *task->file);
  }
  return false;
}

/// A target has all its bytes. The disk is waited for on another thread, while this one goes on.
void WriteJob::complete(std::unique_ptr<TargetFile> file) {
  if (file == nullptr) return;
  if (!shared_.plan.sync) return close(*file);
  if (++syncing_ > kMostSyncing) {
    --syncing_;
    return close(*file);
  }
  std::shared_ptr<TargetFile> last(std::move(file));
  const bool begun = aside("wc-sync", [this, last] {
    close(*last);
    --syncing_;
  });
  if (begun) return;
  --syncing_;  // no thread: this one waits
  close(*last);
}

void WriteJob::close(TargetFile& file) {
  const Stopwatch watch(shared_.sync_ns);
  if (shared_.plan.sync) file.sync();
  file.close();
}

Written WriteJob::finish() {
  for (const auto& file : shared_.files) file.expect_unchanged();
  const auto in_ms = [](const std::atomic<std::uint64_t>& sum) { return double(sum) / 1e6; };
  return {std::move(shared_.digests),
          {.targets = shared_.plan.targets.size(),
           .bytes = bytes(),
           .elapsed_ms = milliseconds_since(since_),
           .read_ms = in_ms(shared_.read_ns),
           .hash_ms = in_ms(shared_.hash_ns),
           .write_ms = in_ms(shared_.write_ns),
           .sync_ms = in_ms(shared_.sync_ns)}};
}

void WriteJob::release() noexcept {
  queue_.clear();
  shared_.files.clear();
}

}  // namespace weightcast
