#include "core/hash_job.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <thread>

namespace weightcast {
namespace {

constexpr std::size_t kBufferBytes = std::size_t(1) << 20;
/// Below this, the bytes between two blocks are read and skipped: cheaper than a call a block.
constexpr std::uint64_t kWidestGap = 64 << 10;

void lower_priority() {
  // On Linux niceness belongs to the thread.
  (void)::setpriority(PRIO_PROCESS, id_t(::syscall(SYS_gettid)), 5);
}

}  // namespace

HashJob::HashJob(HashPlan plan, Progress progress, Done<std::vector<Digest>> done)
    : plan_(std::move(plan)),
      progress_(std::move(progress)),
      done_(std::move(done)),
      digests_(plan_.digest_segments.size()) {}

std::shared_ptr<HashJob> HashJob::start(HashPlan plan, Progress progress, Done<std::vector<Digest>> done) {
  auto job = std::shared_ptr<HashJob>(new HashJob(std::move(plan), std::move(progress), std::move(done)));
  job->running_ = 1;
  job->crew_.start("wc-sha256", [job] { job->run(); });
  return job;
}

/// On the first thread: orders the digests, opens the files, starts the other threads, and works along.
void HashJob::run() {
  auto self = shared_from_this();
  try {
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

    unsigned threads = plan_.threads != 0 ? plan_.threads : std::max(1u, std::thread::hardware_concurrency());
    threads = unsigned(std::min<std::size_t>(threads, std::max<std::size_t>(1, order_.size())));
    for (unsigned i = 1; i < threads; ++i) {
      ++running_;
      try {
        crew_.start("wc-sha256", [self] {
          lower_priority();
          self->work();
        });
      } catch (...) {
        --running_;
        break;  // fewer threads will do
      }
    }
    lower_priority();
    work();
  } catch (...) {
    fail(current_error());
    if (--running_ == 0) finish();
  }
}

void HashJob::fail(const Error& error) {
  std::lock_guard lock(mutex_);
  if (!error_) error_ = error;
  failed_ = true;
}

void HashJob::work() {
  try {
    std::vector<char> buffer(kBufferBytes);
    for (std::size_t i = next_++; i < order_.size() && !cancelled_ && !failed_; i = next_++) {
      digests_[order_[i]] = digest(order_[i], buffer);
    }
  } catch (...) {
    fail(current_error());
  }
  if (--running_ == 0) finish();
}

void HashJob::finish() {
  auto done = std::move(done_);
  done_ = nullptr;
  done(capture<std::vector<Digest>>([this] {
    if (cancelled_) throw Error(code::kClosed, "the digest job was cancelled");
    {
      std::lock_guard lock(mutex_);
      if (error_) throw *error_;
    }
    for (const auto& file : files_) file.expect_unchanged();
    if (progress_) progress_(bytes_);
    return std::move(digests_);
  }));
}

Digest HashJob::digest(std::size_t index, std::vector<char>& buffer) {
  Sha256 hash_state;
  const std::size_t first = first_segment_[index];
  for (std::size_t i = first; i < first + plan_.digest_segments[index]; ++i) {
    hash(plan_.segments[i], hash_state, buffer);
  }
  return hash_state.finish();
}

void HashJob::hash(const HashSegment& segment, Sha256& state, std::vector<char>& buffer) {
  const File& file = files_[segment.file];
  std::uint64_t block_bytes = segment.block_bytes;
  std::uint64_t blocks = segment.blocks;
  if (blocks == 0 || block_bytes == 0) return;
  if (segment.stride_bytes == block_bytes) {
    block_bytes *= blocks;
    blocks = 1;
  }
  const std::uint64_t stride = segment.stride_bytes;
  const bool skip_gaps = blocks > 1 && stride - block_bytes <= kWidestGap && stride <= buffer.size();
  if (skip_gaps) {
    const std::uint64_t per_read = (buffer.size() - block_bytes) / stride + 1;
    for (std::uint64_t block = 0; block < blocks && !cancelled_ && !failed_;) {
      const std::uint64_t take = std::min(per_read, blocks - block);
      file.read(buffer.data(), (take - 1) * stride + block_bytes, segment.offset + block * stride);
      for (std::uint64_t i = 0; i < take; ++i) state.update(buffer.data() + i * stride, block_bytes);
      block += take;
      advance(take * block_bytes);
    }
    return;
  }
  for (std::uint64_t block = 0; block < blocks; ++block) {
    const std::uint64_t start = segment.offset + block * stride;
    for (std::uint64_t at = 0; at < block_bytes && !cancelled_ && !failed_;) {
      const std::size_t take = std::size_t(std::min<std::uint64_t>(buffer.size(), block_bytes - at));
      file.read(buffer.data(), take, start + at);
      state.update(buffer.data(), take);
      at += take;
      advance(take);
    }
  }
}

void HashJob::advance(std::uint64_t bytes) {
  const std::uint64_t total = bytes_ += bytes;
  if (progress_ && ticker_.due()) progress_(total);
}

}  // namespace weightcast
