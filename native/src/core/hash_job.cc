#include "core/hash_job.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <thread>

#include "core/lane_pair.h"

namespace weightcast {
namespace {

/// A read that has not returned so long after a stop is left behind: a file system can hang for good.
constexpr double kStopLimitMs = 500;

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
    HashLane a(files_), b(files_);
    while (!cancelled_ && !failed_) {
      const bool has_a = feed(a), has_b = feed(b);
      if (!has_a && !has_b) break;
      advance(hash_ready(a, has_a, b, has_b));
    }
  } catch (...) {
    fail(current_error());
  }
  if (--running_ == 0) finish();
}

/// Keeps a lane in work, with the next digest where one has ended; false when none is left.
bool HashJob::feed(HashLane& lane) {
  if (lane.ready() > 0) return true;
  while (!cancelled_ && !failed_) {
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

void HashJob::request_stop() noexcept {
  if (cancelled_.exchange(true) || settled_) return;
  try {
    ending_.start("wc-sha256-end", [self = shared_from_this()] {
      // The threads hold the job and touch nothing else, so they may come back whenever they do.
      if (self->crew_.wait(Deadline::after(kStopLimitMs))) return;
      self->settle(Error(code::kFileRead, "a read has not returned; its thread was left behind"));
    });
  } catch (...) {  // no thread to wait on: nobody waits
    settle(Error(code::kClosed, "the digest job was cancelled"));
  }
}

void HashJob::settle(Outcome<std::vector<Digest>> outcome) {
  if (settled_.exchange(true)) return;
  const auto done = std::move(done_);
  done(std::move(outcome));
}

void HashJob::finish() {
  settle(capture<std::vector<Digest>>([this] {
    if (cancelled_) throw Error(code::kClosed, "the digest job was cancelled");
    {
      std::lock_guard lock(mutex_);
      if (error_) throw *error_;
    }
    for (const auto& file : files_) file.expect_unchanged();
    if (progress_) progress_(bytes_);
    return std::move(digests_);
  }));
  files_.clear();  // here: the handle may be collected on a thread that must not wait for a file system
}

void HashJob::advance(std::uint64_t bytes) {
  const std::uint64_t total = bytes_ += bytes;
  if (progress_ && ticker_.due()) progress_(total);
}

}  // namespace weightcast
