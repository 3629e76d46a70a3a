// The thread that owns one communicator: its context, its memory and every NCCL call; and the one beside it
// that watches it. A call that does not return can't be cancelled: the watcher settles every job with an
// error and leaves the thread behind, with all that it holds. Everything here but post() and interrupt()
// belongs to the owner.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "core/call_watch.h"
#include "core/crew.h"
#include "core/device_buffers.h"
#include "core/job_ledger.h"
#include "core/mailbox.h"
#include "core/nccl_group.h"
#include "core/outcome.h"
#include "core/staging.h"
#include "core/stoppable.h"
#include "core/transfer.h"

namespace weightcast {

enum class State { idle, initializing, ready, failed, aborted, closed };

using TransferId = std::uint64_t;

/// What the thread works with; exists while the thread runs.
struct Workbench {
  Workbench(std::shared_ptr<const Runtime> runtime, int device, Interrupt& interrupt)
      : session(std::move(runtime), device, interrupt),
        buffers(session),
        staging(session),
        group(session) {}

  // Destroyed from the last to the first.
  DeviceSession session;
  DeviceBuffers buffers;
  StagingPool staging;
  NcclGroup group;
  std::map<TransferId, std::unique_ptr<Transfer>> transfers;
  TransferId next_transfer = 1;
};

class CommunicatorThread : public Stoppable, public std::enable_shared_from_this<CommunicatorThread> {
 public:
  /// When the device can't be entered, every job ends with that error.
  static std::shared_ptr<CommunicatorThread> start(std::shared_ptr<const Runtime> runtime, int device);

  State state() const { return state_; }
  void set_state(State state) { state_ = state; }
  const std::shared_ptr<Interrupt>& interrupt() const { return interrupt_; }

  /// Runs `work(Workbench&)` on the thread, in order; `done` gets its value, or WC_NATIVE_CLOSED, or
  /// WC_NATIVE_STUCK when a call before or in it does not return: at most a second after the deadline, or
  /// when the call has lasted for the runtime's call limit; or WC_NCCL_TIMEOUT, in that second, when its turn
  /// has not come.
  template <class T, class Work>
  void post(Work work, Done<T> done, JobTerms terms = {}) {
    const auto id = jobs_.add(terms, [done](const Error& error) { done(Outcome<T>(error)); });
    const bool taken = mailbox_.post([this, id, terms, work = std::move(work), done]() mutable {
      if (!jobs_.begin(id) && !terms.always) return;
      auto outcome = capture<T>([&] { return work(open_bench(terms)); });
      if (jobs_.take(id)) done(std::move(outcome));
    });
    if (!taken && jobs_.take(id)) done(Outcome<T>(refusal()));
  }

  /// On the thread: what the job that runs will fail with; told if the clean-up that follows gets stuck.
  void note_failure(const Error& error);

  /// Asks the thread to abort what runs; operations that wait see it within a millisecond.
  void request_abort() noexcept;
  /// On the thread: one abort that was asked for is done.
  void note_aborted() noexcept { --interrupt_->aborts; }
  void request_stop() noexcept override;
  bool wait_stopped(const Deadline& deadline) noexcept override;

  /// On the thread: the jobs after this one are refused, and the thread ends. An NCCL call that hangs is
  /// waited for until the deadline, then left behind.
  void finish(const Deadline& deadline);

  static Error closed_error() { return Error(code::kClosed, "the communicator is closed"); }

 private:
  CommunicatorThread(std::shared_ptr<const Runtime> runtime, int device)
      : runtime_(std::move(runtime)), device_(device) {}
  void run();
  Workbench& open_bench(const JobTerms& terms);
  void dismantle(const Deadline& deadline);
  void watch();
  void give_up(double elapsed_ms);
  Error refusal() const;

  const std::shared_ptr<const Runtime> runtime_;
  const int device_;

  std::shared_ptr<Interrupt> interrupt_ = std::make_shared<Interrupt>();
  Mailbox mailbox_;
  std::atomic<State> state_{State::idle};
  std::unique_ptr<Workbench> bench_;
  std::optional<Error> entry_error_;
  CallWatch calls_;
  JobLedger jobs_;
  Crew crew_;

  mutable std::mutex mutex_;
  std::optional<Error> failure_;  // guarded by mutex_: of the job that runs
  std::optional<Error> stuck_;    // guarded by mutex_: the thread was given up
};

}  // namespace weightcast
