#pragma once
#include <functional>
#include <memory>

#include "common/worker.h"
#include "cuda/abi.h"

namespace emulator::cuda {

/** A FIFO of host functions on a thread of its own. */
struct Stream : StreamHandle {
  Stream(CUdevice device_, unsigned flags_, int priority_);
  CUdevice device;
  unsigned flags;
  int priority;
  std::shared_ptr<Worker> worker = std::make_shared<Worker>();
};

/** The stream behind a handle, or nullptr. Keeps it alive while it is used. */
std::shared_ptr<Stream> find_stream(CUstream handle);

/** Runs `job` on the stream; at once, in the caller, on a default stream. kInvalidHandle for a stream that is
 * no more. */
CUresult submit(CUstream handle, std::function<void()> job);

/** Waits for everything that was submitted to the device's streams. */
void synchronize_device(CUdevice device);

}  // namespace emulator::cuda
