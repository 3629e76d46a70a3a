// SHA-256 of many tensors of files, on several threads and two at a time on each, largest first.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/crew.h"
#include "core/file.h"
#include "core/hash_lane.h"
#include "core/outcome.h"
#include "core/stoppable.h"
#include "core/ticker.h"

namespace weightcast {

struct HashPlan {
  std::vector<std::string> files;
  std::vector<HashSegment> segments;
  /// Number of segments of each digest, in order.
  std::vector<std::uint32_t> digest_segments;
  unsigned threads = 0;
};

class HashJob : public Stoppable, public std::enable_shared_from_this<HashJob> {
 public:
  using Progress = std::function<void(std::uint64_t bytes)>;

  /// Starts the threads. `done` is called once: on one of them, or by whoever gave them up.
  static std::shared_ptr<HashJob> start(HashPlan plan, Progress progress, Done<std::vector<Digest>> done);

  /// The job is settled soon after this, also when a read never returns.
  void request_stop() noexcept override;
  bool wait_stopped(const Deadline& deadline) noexcept override {
    return crew_.wait(deadline) && ending_.wait(deadline);
  }

 private:
  HashJob(HashPlan plan, Progress progress, Done<std::vector<Digest>> done);
  void run();
  void work();
  void fail(const Error& error);
  bool feed(HashLane& lane);
  void advance(std::uint64_t bytes);
  void finish();
  void settle(Outcome<std::vector<Digest>> outcome);

  HashPlan plan_;
  Progress progress_;
  Done<std::vector<Digest>> done_;  // of whoever settles the job
  std::vector<std::size_t> first_segment_;
  std::vector<std::size_t> order_;  // digests, largest first
  std::vector<File> files_;
  std::vector<Digest> digests_;
  std::atomic<std::size_t> next_{0};
  std::atomic<unsigned> running_{0};
  std::atomic<bool> settled_{false};
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> failed_{false};
  std::atomic<std::uint64_t> bytes_{0};
  Ticker ticker_;
  std::mutex mutex_;
  std::optional<Error> error_;  // guarded by mutex_
  Crew crew_;
  Crew ending_;  // waits for the others after a stop
};

}  // namespace weightcast
