#pragma once
#include "cuda/abi.h"

namespace emulator::cuda {

constexpr int kMaxDevices = 64;

/** kNotInitialized before a successful cuInit. */
CUresult check_initialized();
/** check_initialized, then kInvalidDevice for an ordinal that does not exist. */
CUresult check_device(CUdevice device);
int device_count();
/** Bytes of this machine's memory, which every emulated device claims as its own. */
std::size_t machine_memory();
std::size_t available_memory();

}  // namespace emulator::cuda
