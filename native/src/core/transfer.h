// Sends the frames of a plan: read, copy and broadcast overlap, on the communicator's thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>

#include "core/nccl_group.h"
#include "core/stager.h"
#include "core/ticker.h"

namespace weightcast {

struct TransferProgress {
  std::uint64_t frames_sent;
  std::uint64_t bytes_read;
  std::uint64_t bytes_sent;
};

struct TransferStats {
  std::uint64_t frames;
  std::uint64_t bytes;
  double elapsed_ms;
  double read_ms;
  double copy_ms;
  double broadcast_ms;
};

class Transfer {
 public:
  using Progress = std::function<void(const TransferProgress&)>;

  /// Opens the files, takes staging and starts to read. @throws Error
  Transfer(DeviceSession& session, const DeviceBuffers& buffers, StagingPool& pool, Plan plan,
           std::shared_ptr<Interrupt> interrupt);
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  /// Fills as many slots as there are; nothing is sent. @throws Error at the deadline, or when a minute brings
  /// not a byte: WC_FILE_READ, or WC_NATIVE_STUCK when it is a copy that hangs
  void stage(const Deadline& deadline);
  /// Broadcasts everything. After an error the communicator must be aborted.
  TransferStats run(NcclGroup& group, const Deadline& deadline, const Progress& progress);

  /// Broadcasts handed to NCCL so far; outlives the transfer.
  std::shared_ptr<const std::atomic<std::uint64_t>> frames_issued() const { return frames_issued_; }

 private:
  bool retire_batches();
  Error not_staged(const Deadline& missed) const;
  void send_next_frame(NcclGroup& group, const Watch& watch);
  void report(const Progress& progress, bool always);

  DeviceSession& session_;
  StagingPool& pool_;
  std::shared_ptr<Interrupt> interrupt_;
  std::shared_ptr<const Plan> plan_;
  std::shared_ptr<const Layout> layout_;
  std::shared_ptr<Staging> staging_;
  std::shared_ptr<std::atomic<std::uint64_t>> frames_issued_;
  std::optional<Stager> stager_;
  BusyTime sending_;
  Ticker ticker_;
  std::size_t batches_issued_ = 0;
  std::size_t batches_sent_ = 0;
};

}  // namespace weightcast
