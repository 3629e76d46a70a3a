// One communicator as its users see it, from any thread: operations are queued, and end in a callback on its
// thread.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/communicator_thread.h"

namespace weightcast {

struct BroadcastRequest {
  BufferId buffer;
  std::uint64_t offset;
  std::uint64_t length;
  int root;
};

/// A transfer that stands ready.
struct Prepared {
  TransferId id;
  std::shared_ptr<const std::atomic<std::uint64_t>> frames_issued;
};

/// Closes itself, without waiting, when the last user lets go.
class Communicator {
 public:
  explicit Communicator(std::shared_ptr<CommunicatorThread> thread) : thread_(std::move(thread)) {}
  ~Communicator() { thread_->request_stop(); }
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  State state() const { return thread_->state(); }
  std::shared_ptr<Stoppable> stoppable() const { return thread_; }

  /// Ends when the device is entered; without a limit of its own at the runtime's call limit.
  void enter(std::optional<double> timeout_ms, Done<Unit> done);

  void init(const Membership& membership, double timeout_ms, Done<Unit> done);
  void all_reduce(std::vector<float> values, double timeout_ms, Done<std::vector<float>> done);
  void broadcast(const BroadcastRequest& request, double timeout_ms, Done<Unit> done);
  void prepare(Plan plan, double timeout_ms, Done<Prepared> done);
  void run(TransferId id, double timeout_ms, Transfer::Progress progress, Done<TransferStats> done);
  void close_transfer(TransferId id, Done<Unit> done);
  /// Without a limit of its own it ends at the call limit.
  void async_error(std::optional<double> timeout_ms, Done<int> done);
  void abort(Done<Unit> done);
  void destroy(double timeout_ms, Done<Unit> done);

  void allocate(std::uint64_t length, Done<BufferId> done);
  /// See DeviceBuffers.
  void open(const CudaIpcHandle& handle, std::uint64_t length, Done<BufferId> done);
  void share(BufferId id, Done<CudaIpcHandle> done);
  void free(BufferId id, Done<Unit> done);
  /// `target` and `bytes` must live until `done`.
  void read(BufferId id, std::uint64_t offset, void* target, std::uint64_t length, Done<Unit> done);
  void write(BufferId id, std::uint64_t offset, const void* bytes, std::uint64_t length, Done<Unit> done);
  void copy(BufferId target, BufferId source, const StridedCopy& copy, Done<Unit> done);
  void sha256(BufferId id, std::vector<ByteSpan> spans, Done<std::vector<Digest>> done);

 private:
  std::shared_ptr<CommunicatorThread> thread_;
};

}  // namespace weightcast
