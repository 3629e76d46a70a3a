// One NCCL communicator, used by one thread alone. Calls return at once (blocking = 0) and are polled to a
// deadline.
#pragma once

#include <functional>
#include <string>

#include "core/crew.h"
#include "core/deadline.h"
#include "core/device_session.h"
#include "core/error.h"

namespace weightcast {

struct Membership {
  NcclUniqueId unique_id;
  int world_size;
  int rank;
};

/// One operation as its waits see it: what it is called, when it must end, and what to do meanwhile.
struct Watch {
  std::string operation;
  Deadline deadline;
  std::function<void()> meanwhile;
};

class NcclGroup {
 public:
  explicit NcclGroup(DeviceSession& session) : session_(session), completed_(make_event(session.cuda())) {}

  bool joined() const { return comm_ != nullptr; }

  /// The calls below throw Error: WC_NCCL_TIMEOUT at the deadline, WC_NCCL_ABORTED when interrupted,
  /// WC_NCCL_FAILED. The caller then aborts: nothing else is safe.
  void join(const Membership& membership, const Watch& watch);
  /// Puts a broadcast of bytes on the stream, in place; it is there when this returns.
  void broadcast(DevicePointer bytes, std::size_t length, int root, const Watch& watch);
  void sum(DevicePointer floats, std::size_t count, const Watch& watch);
  /// Waits until everything put on the stream is done.
  void complete(const Watch& watch);
  /// Throws when the operation must end: interrupted, past its deadline, or NCCL reports an error.
  void check(const Watch& watch);
  /// Throws when NCCL reports an error.
  void expect_healthy(const Watch& watch);

  /// 0, or the ncclResult_t that NCCL reports.
  int async_error() const;

  /// Aborts what runs. Bounded: see ended().
  void abort() noexcept;
  /// Finalises and destroys; aborts at the deadline.
  void leave(const Deadline& deadline) noexcept;
  /// False while ncclCommAbort or ncclCommDestroy has not returned (foreign work holds the device): the
  /// memory that the device may still touch must then be left behind.
  bool ended(const Deadline& deadline) const { return ending_.wait(deadline); }

 private:
  void expect(int result, const Watch& watch, const char* call);
  void settle(const Watch& watch);
  [[noreturn]] void fail(int result, const Watch& watch, const char* call);
  std::string who() const;
  Details details(const Watch& watch) const;
  void end(LibraryCall<int(NcclComm)> NcclApi::*call) noexcept;
  void repair_group_depth() const noexcept;
  const NcclApi& nccl() const { return session_.runtime().nccl(); }

  DeviceSession& session_;
  Event completed_;
  Crew ending_;
  NcclComm comm_ = nullptr;
  int world_size_ = 0;
  int rank_ = 0;
};

}  // namespace weightcast
