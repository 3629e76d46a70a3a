// What a communicator's thread has of CUDA: the current primary context, two streams, and a small bounce
// buffer.
#pragma once

#include <array>
#include <functional>
#include <memory>

#include "core/cuda_handles.h"
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

  /// Waits for everything that is on the copy stream now.
  void drain_copies();
  /// Device to host through pinned memory; `consume(bytes, length)` gets the pieces in order while the next
  /// one is copied.
  void read(DevicePointer source, std::size_t length,
            const std::function<void(const void*, std::size_t)>& consume);
  void write(DevicePointer target, const void* source, std::size_t length);

 private:
  void expect_open() const;
  void wait(const Event& event);
  void allocate_bounce();

  std::shared_ptr<const Runtime> runtime_;
  const int device_;
  Interrupt& interrupt_;
  Stream copies_;
  Stream collectives_;
  std::array<PinnedMemory, 2> bounce_;
  std::array<Event, 2> bounced_;
  Event drained_;
};

}  // namespace weightcast
