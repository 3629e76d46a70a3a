// What a communicator's thread has of CUDA: the current primary context, two streams, and a small bounce
// buffer.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/cuda_handles.h"
#include "core/deadline.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/runtime.h"

namespace weightcast {

class DeviceSession {
 public:
  /// Makes the device's primary context current on the calling thread, which alone may use the session.
  DeviceSession(std::shared_ptr<const Runtime> runtime, int device, Interrupt& interrupt);

  const CudaApi& cuda() const { return runtime_->cuda(); }
  const Runtime& runtime() const { return *runtime_; }
  std::shared_ptr<const Runtime> shared_runtime() const { return runtime_; }
  int device() const { return device_; }
  Interrupt& interrupt() { return interrupt_; }
  /// Copies run here, beside the collectives.
  CudaStream copies() const { return copies_.get(); }
  CudaStream collectives() const { return collectives_.get(); }

  /// A job begins: its waits end at its deadline, and where it has none when they have lasted as long as a
  /// call may.
  void begin(const std::optional<Deadline>& deadline) { deadline_ = deadline; }

  /// Between steps that are short but many. @throws Error `error_code` past the job's deadline; or that it was
  /// interrupted
  void expect_time(const char* error_code, const std::string& work) const;

  /// Waits for everything that is on the copy stream now. Like all that waits here it throws Error:
  /// WC_NATIVE_STUCK at the deadline, WC_NCCL_ABORTED and WC_NATIVE_CLOSED when interrupted.
  void drain_copies();
  /// What a copy that has not ended in time is told as.
  Error stuck_copy(const Deadline& missed) const;
  /// Device to host through pinned memory; `consume(bytes, length)` gets the pieces in order while the next
  /// one is copied.
  void read(DevicePointer source, std::size_t length,
            const std::function<void(const void*, std::size_t)>& consume);
  void write(DevicePointer target, const void* source, std::size_t length);

 private:
  void expect_open() const;
  void expect_running() const;
  void wait(const Event& event);
  void allocate_bounce();

  std::shared_ptr<const Runtime> runtime_;
  const int device_;
  Interrupt& interrupt_;
  std::optional<Deadline> deadline_;
  Stream copies_;
  Stream collectives_;
  std::array<PinnedMemory, 2> bounce_;
  std::array<Event, 2> bounced_;
  Event drained_;
};

}  // namespace weightcast
