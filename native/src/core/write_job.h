// Writes files from ranges of others, of devices and of host memory, several at a time, with a SHA-256 of each
// range as the bytes pass.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/crew.h"
#include "core/outcome.h"
#include "core/stoppable.h"
#include "core/ticker.h"
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

class WriteJob : public Stoppable, public std::enable_shared_from_this<WriteJob> {
 public:
  using Progress = std::function<void(std::uint64_t bytes)>;

  /// Starts the threads. `done` is called once: on one of them, or by whoever gave them up. Whatever the end,
  /// the targets that were created stay, and by then are closed, but for those that a call still hangs in.
  static std::shared_ptr<WriteJob> start(WritePlan plan, Progress progress, Done<Written> done);

  /// The job is settled soon after this, also when a call of the file system never returns.
  void request_stop() noexcept override;
  bool wait_stopped(const Deadline& deadline) noexcept override {
    return crew_.wait(deadline) && ending_.wait(deadline);
  }

 private:
  WriteJob(WritePlan plan, Progress progress, Done<Written> done);
  void run();
  void start_threads();
  void work();
  bool feed(WriteLane& lane, std::optional<std::size_t>& target, std::size_t& mine);
  void complete(std::unique_ptr<TargetFile> file);
  void close(TargetFile& file);
  void advance(std::uint64_t bytes);
  void fail(const Error& error);
  void leave();
  void finish();
  void settle(Outcome<Written> outcome);
  Written result();

  WriteShared shared_;
  Progress progress_;
  Done<Written> done_;  // of whoever settles the job
  WriteQueue queue_;
  Clock::time_point since_ = Clock::now();
  std::atomic<unsigned> running_{0};
  std::atomic<unsigned> syncing_{0};
  std::atomic<bool> settled_{false};
  std::atomic<bool> cancelled_{false};
  std::atomic<std::uint64_t> bytes_{0};
  Ticker ticker_;
  std::mutex mutex_;
  std::optional<Error> error_;  // guarded by mutex_
  Crew crew_;
  Crew ending_;  // waits for the others after a stop
};

}  // namespace weightcast
