// The thread that owns one communicator: its context, its memory and every NCCL call. Everything here but
// post() and interrupt() belongs to that thread.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>

#include "core/crew.h"
#include "core/device_buffers.h"
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
        staging(session.cuda()),
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

  /// Runs `work(Workbench&)` on the thread, in order; `done` gets its value, or WC_NATIVE_CLOSED.
  template <class T, class Work>
  void post(Work work, Done<T> done) {
    auto refused = done;
    const bool taken = mailbox_.post([this, work = std::move(work), done = std::move(done)]() mutable {
      done(capture<T>([&] { return work(open_bench()); }));
    });
    if (!taken) refused(Outcome<T>(closed_error()));
  }

  /// Asks the thread to abort what runs; operations that wait see it within a millisecond.
  void request_abort() noexcept;
  void request_stop() noexcept override;
  bool wait_stopped(const Deadline& deadline) noexcept override { return crew_.wait(deadline); }

  /// On the thread: the jobs after this one are refused, and the thread ends.
  void finish();

  static Error closed_error() { return Error(code::kClosed, "the communicator is closed"); }

 private:
  CommunicatorThread() = default;
  void run(std::shared_ptr<const Runtime> runtime, int device);
  Workbench& open_bench();
  void dismantle();

  std::shared_ptr<Interrupt> interrupt_ = std::make_shared<Interrupt>();
  Mailbox mailbox_;
  std::atomic<State> state_{State::idle};
  std::unique_ptr<Workbench> bench_;
  std::optional<Error> entry_error_;
  Crew crew_;
};

}  // namespace weightcast
