#pragma once
#include "cuda/abi.h"

namespace emulator::cuda {

/** A device's primary context: the only kind there is here. */
struct Context {
  CUdevice device;
};

/** The calling thread's context, or nullptr. */
Context* current_context();
/** kNotInitialized, or kInvalidContext when the calling thread has no current context. */
CUresult check_context();

}  // namespace emulator::cuda
