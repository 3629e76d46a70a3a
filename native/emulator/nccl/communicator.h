#pragma once
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "common/worker.h"
#include "nccl/join.h"
#include "nccl/operation.h"

namespace emulator::nccl {

/** One rank of a communicator: its state, the order of its operations, and its end of the transport. */
class Communicator : public std::enable_shared_from_this<Communicator> {
 public:
  Communicator(const Invitation& invitation, bool blocking) : invitation_(invitation), blocking_(blocking) {}

  bool blocking() const { return blocking_; }
  int rank() const { return invitation_.rank; }
  int ranks() const { return invitation_.ranks; }
  int device() const { return invitation_.device.ordinal; }

  /** Joins the group in the caller, or (non-blocking) in the background: returns kInProgress then. */
  ncclResult_t start();
  /** kSuccess when the next call is allowed: kInvalidArgument while one is in progress, else the sticky
   * error. */
  ncclResult_t ready(const char* caller);
  /** Overwrites what GetAsyncError reports, as a refused Finalize does. */
  void set_state(ncclResult_t state);
  ncclResult_t state();

  /**
   * Puts operations on their streams, in order. On a default stream they run in the caller (blocking), so
   * that the data is in place on return. Non-blocking: returns kInProgress, and nothing is on a stream before
   * the state is 0.
   */
  struct Launch {
    Operation operation;
    cudaStream_t stream;
  };
  ncclResult_t launch(std::vector<Launch> launches);

  ncclResult_t finalize();
  /** Waits for every operation, then leaves the group. The sticky error, and nothing happens, when there is
   * one. */
  ncclResult_t destroy();
  /** Stops whatever runs; returns when no operation of this communicator touches memory any more. */
  void abort();
  /** A collective in the caller, behind everything that was launched before; for the library's own use. */
  ncclResult_t run_inline(Operation operation);

 private:
  struct Ticket;
  ncclResult_t join_now();
  ncclResult_t launch_now(std::vector<Launch> launches);
  /** Runs one operation when its turn has come. `parks`: after an error a stream stays stuck until abort. */
  ncclResult_t run(Operation& operation, std::uint64_t turn, bool parks);
  void wait_until_idle();
  bool has_left();
  static void run_ticket(void* ticket);

  const Invitation invitation_;
  const bool blocking_;
  StopFlag stop_;
  std::unique_ptr<Transport> transport_;  // written by join_now, before the state says that init is over

  std::mutex mutex_;  // guards everything below
  std::condition_variable changed_;
  ncclResult_t state_ = kSuccess;
  bool joining_ = false;
  bool left_ = false;
  int busy_ = 0;
  int launching_ = 0;  // by the background thread, of a communicator that does not block
  std::uint64_t next_turn_ = 0;
  std::uint64_t serving_ = 0;
  std::uint64_t operations_ = 0;
  std::shared_ptr<Worker> background_;
};

}  // namespace emulator::nccl
