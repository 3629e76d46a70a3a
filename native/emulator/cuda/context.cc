#include "cuda/context.h"

#include <array>
#include <mutex>
#include <vector>

#include "common/faults.h"
#include "cuda/device.h"
#include "cuda/memory.h"
#include "cuda/stream.h"

namespace emulator::cuda {
namespace {

struct Primary {
  Context context{};
  int retained = 0;
  unsigned flags = 0;
};

std::mutex& primaries_mutex = *new std::mutex;  // guards primaries
/** Numbered once: threads read the number of their context without the lock. */
std::array<Primary, kMaxDevices>& primaries = *[] {
  auto* numbered = new std::array<Primary, kMaxDevices>;
  for (std::size_t i = 0; i < kMaxDevices; ++i) (*numbered)[i].context.device = static_cast<CUdevice>(i);
  return numbered;
}();

thread_local std::vector<Context*> stack;

Primary& primary_of(CUdevice device) { return primaries[static_cast<std::size_t>(device)]; }

bool is_context(const Context* context) {
  for (auto& primary : primaries) {
    if (&primary.context == context) return true;
  }
  return false;
}

}  // namespace

Context* current_context() {
  if (stack.empty() || stack.back() == nullptr) return nullptr;
  std::lock_guard lock(primaries_mutex);
  return primary_of(stack.back()->device).retained > 0 ? stack.back() : nullptr;
}

CUresult check_context() {
  if (const auto error = check_initialized()) return error;
  return current_context() == nullptr ? kInvalidContext : kSuccess;
}

}  // namespace emulator::cuda

using namespace emulator::cuda;

EMULATED CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  emulator::hang_if_told("cuDevicePrimaryCtxRetain");
  if (const auto error = check_device(device)) return error;
  if (context == nullptr) return kInvalidValue;
  std::lock_guard lock(primaries_mutex);
  auto& primary = primary_of(device);
  ++primary.retained;
  *context = &primary.context;
  return kSuccess;
}

EMULATED CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  if (const auto error = check_device(device)) return error;
  std::lock_guard lock(primaries_mutex);
  auto& primary = primary_of(device);
  if (primary.retained == 0) return kInvalidContext;
  --primary.retained;
  return kSuccess;
}

EMULATED CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned flags) {
  if (const auto error = check_device(device)) return error;
  std::lock_guard lock(primaries_mutex);
  primary_of(device).flags = flags;
  return kSuccess;
}

EMULATED CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
  if (const auto error = check_device(device)) return error;
  if (flags == nullptr || active == nullptr) return kInvalidValue;
  std::lock_guard lock(primaries_mutex);
  *flags = primary_of(device).flags;
  *active = primary_of(device).retained > 0 ? 1 : 0;
  return kSuccess;
}

EMULATED CUresult cuCtxSetCurrent(CUcontext context) {
  if (const auto error = check_initialized()) return error;
  if (context != nullptr && !is_context(context)) return kInvalidContext;
  if (stack.empty()) {
    if (context != nullptr) stack.push_back(context);
  } else if (context == nullptr) {
    stack.pop_back();
  } else {
    stack.back() = context;
  }
  return kSuccess;
}

EMULATED CUresult cuCtxGetCurrent(CUcontext* context) {
  if (const auto error = check_initialized()) return error;
  if (context == nullptr) return kInvalidValue;
  *context = stack.empty() ? nullptr : stack.back();
  return kSuccess;
}

EMULATED CUresult cuCtxPushCurrent_v2(CUcontext context) {
  if (const auto error = check_initialized()) return error;
  if (context == nullptr || !is_context(context)) return kInvalidContext;
  stack.push_back(context);
  return kSuccess;
}

EMULATED CUresult cuCtxPopCurrent_v2(CUcontext* context) {
  if (const auto error = check_initialized()) return error;
  if (stack.empty()) return kInvalidContext;
  if (context != nullptr) *context = stack.back();
  stack.pop_back();
  return kSuccess;
}

EMULATED CUresult cuCtxGetDevice(CUdevice* device) {
  if (const auto error = check_context()) return error;
  if (device == nullptr) return kInvalidValue;
  *device = current_context()->device;
  return kSuccess;
}

EMULATED CUresult cuCtxSynchronize() {
  if (const auto error = check_context()) return error;
  synchronize_device(current_context()->device);
  return kSuccess;
}

EMULATED CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  if (const auto error = check_context()) return error;
  if (least != nullptr) *least = 0;
  if (greatest != nullptr) *greatest = -5;
  return kSuccess;
}
