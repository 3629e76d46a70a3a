#pragma once
#include <cstddef>
#include <cstdint>

#include "common/export.h"
#include "common/stream.h"

// The parts of the CUDA driver ABI that are emulated (contracts/nccl.md, section 6.1). Handles are pointers.

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = std::uint64_t;
using CUstream = emulator::StreamHandle*;

namespace emulator::cuda {
struct Context;
struct Event;
}  // namespace emulator::cuda

using CUcontext = emulator::cuda::Context*;
using CUevent = emulator::cuda::Event*;
using CUhostFn = void (*)(void*);
using CUstreamCallback = void (*)(CUstream, CUresult, void*);

struct CUipcMemHandle {
  unsigned char reserved[64];
};

struct CUuuid {
  unsigned char bytes[16];
};

namespace emulator::cuda {

enum Result : CUresult {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidContext = 201,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kHostMemoryAlreadyRegistered = 712,
  kHostMemoryNotRegistered = 713,
  kNotPermitted = 800,
  kNotSupported = 801,
  kSystemDriverMismatch = 803,
};

}  // namespace emulator::cuda
