#include "core/write_job.h"

#include <algorithm>
#include <thread>

#include "core/lane_pair.h"
#include "core/stopwatch.h"

namespace weightcast {
namespace {

/// A call that has not returned so long after a stop is left behind: a file system can hang for good.
constexpr double kStopLimitMs = 500;
/// So many threads wait for the disk at a time, beside those that read, hash and write.
constexpr unsigned kMostSyncing = 8;

Error cancelled(const char* how) { return Error(code::kClosed, how); }

}  // namespace

WriteJob::WriteJob(WritePlan plan, Progress progress, Done<Written> done)
    : shared_(std::move(plan)),
      progress_(std::move(progress)),
      done_(std::move(done)),
      queue_(shared_.plan) {}

std::shared_ptr<WriteJob> WriteJob::start(WritePlan plan, Progress progress, Done<Written> done) {
  auto job = std::shared_ptr<WriteJob>(new WriteJob(std::move(plan), std::move(progress), std::move(done)));
  job->running_ = 1;
  job->crew_.start("wc-write", [job] { job->run(); });
  return job;
}

/// On the first thread: opens the sources, starts the other threads, and works along.
void WriteJob::run() {
  try {
    const auto& plan = shared_.plan;
    if (plan.digest) shared_.digests.resize(plan.ranges.size());
    for (std::size_t i = 0; i < plan.files.size() && !shared_.stop; ++i) {
      shared_.files.emplace_back(plan.files[i]).expect_size(plan.file_sizes[i]);
    }
    start_threads();
  } catch (...) {
    fail(current_error());
  }
  work();
}

void WriteJob::start_threads() {
  const auto asked = shared_.plan.threads != 0 ? shared_.plan.threads : std::thread::hardware_concurrency();
  const auto threads = std::min<std::size_t>(asked, queue_.most_threads());
  for (std::size_t i = 1; i < threads; ++i) {
    ++running_;
    try {
      crew_.start("wc-write", [self = shared_from_this()] { self->work(); });
    } catch (...) {
      --running_;
      break;  // fewer threads will do
    }
  }
}

void WriteJob::work() {
  try {
    WriteLane a(shared_), b(shared_);
    std::optional<std::size_t> a_target, b_target;
    std::size_t mine = ~std::size_t{0};
    while (!shared_.stop) {
      const bool has_a = feed(a, a_target, mine);
      const bool has_b = shared_.plan.digest && feed(b, b_target, mine);
      if (!has_a && !has_b) break;
      hash_ready(a, has_a, b, has_b);
    }
  } catch (...) {
    fail(current_error());
  }
  leave();
}

/// Keeps a lane in work until it has something to hash; false when nothing is left to do.
bool WriteJob::feed(WriteLane& lane, std::optional<std::size_t>& target, std::size_t& mine) {
  while (!shared_.stop) {
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
  ++running_;
  try {
    crew_.start("wc-sync", [self = shared_from_this(), last]() mutable {
      try {
        if (!self->shared_.stop) self->close(*last);
      } catch (...) {
        self->fail(current_error());
      }
      last = nullptr;
      --self->syncing_;
      self->leave();
    });
  } catch (...) {  // no thread: this one waits
    --running_;
    --syncing_;
    close(*last);
  }
}

void WriteJob::close(TargetFile& file) {
  const Stopwatch watch(shared_.sync_ns);
  if (shared_.plan.sync) file.sync();
  file.close();
}

void WriteJob::advance(std::uint64_t bytes) {
  const std::uint64_t total = bytes_ += bytes;
  if (progress_ && ticker_.due()) progress_(total);
}

void WriteJob::fail(const Error& error) {
  std::lock_guard lock(mutex_);
  if (!error_) error_ = error;
  shared_.stop = true;
}

void WriteJob::request_stop() noexcept {
  if (cancelled_.exchange(true) || settled_) return;
  shared_.stop = true;
  try {
    ending_.start("wc-write-end", [self = shared_from_this()] {
      // The threads hold the job and touch nothing else, so they may come back whenever they do.
      if (self->crew_.wait(Deadline::after(kStopLimitMs))) return;
      self->settle(cancelled("the write was cancelled; a call of the file system has not returned, and its thread ends when it does"));
    });
  } catch (...) {  // no thread to wait on: nobody waits
    settle(cancelled("the write was cancelled"));
  }
}

/// One thread less; the last settles the job.
void WriteJob::leave() {
  if (--running_ == 0) finish();
}

void WriteJob::finish() {
  auto outcome = capture<Written>([this] { return result(); });
  queue_.clear();  // before anybody learns of the end, and on a thread that may wait for a file system
  shared_.files.clear();
  settle(std::move(outcome));
}

Written WriteJob::result() {
  {
    std::lock_guard lock(mutex_);
    if (cancelled_) throw cancelled("the write was cancelled");
    if (error_) throw *error_;
  }
  for (const auto& file : shared_.files) file.expect_unchanged();
  if (progress_) progress_(bytes_);
  const auto in_ms = [](const std::atomic<std::uint64_t>& sum) { return double(sum) / 1e6; };
  return {std::move(shared_.digests),
          {.targets = shared_.plan.targets.size(),
           .bytes = bytes_,
           .elapsed_ms = milliseconds_since(since_),
           .read_ms = in_ms(shared_.read_ns),
           .hash_ms = in_ms(shared_.hash_ns),
           .write_ms = in_ms(shared_.write_ns),
           .sync_ms = in_ms(shared_.sync_ns)}};
}

void WriteJob::settle(Outcome<Written> outcome) {
  if (settled_.exchange(true)) return;
  const auto done = std::move(done_);
  done(std::move(outcome));
}

}  // namespace weightcast
