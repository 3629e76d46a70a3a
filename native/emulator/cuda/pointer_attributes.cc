#include "cuda/context.h"
#include "cuda/device.h"
#include "cuda/memory.h"

namespace emulator::cuda {
namespace {

enum Attribute {
  kMemoryType = 2,
  kDevicePointer = 3,
  kHostPointer = 4,
  kIsManaged = 8,
  kDeviceOrdinal = 9,
  kRangeStart = 11,
  kRangeSize = 12,
};

Allocation find_any(const void* pointer, bool& on_device) {
  auto found = find_allocation(Kind::device, pointer, 1);
  on_device = found.base != nullptr;
  if (!on_device) found = find_allocation(Kind::host, pointer, 1);
  if (found.base == nullptr) found = find_allocation(Kind::registered, pointer, 1);
  return found;
}

CUresult attribute(void* out, int which, CUdeviceptr address) {
  bool on_device = false;
  const auto found = find_any(to_pointer(address), on_device);
  if (found.base == nullptr) return kInvalidValue;
  switch (which) {
    case kMemoryType:
      *static_cast<unsigned*>(out) = on_device ? 2 : 1;
      return kSuccess;
    case kDevicePointer:
      *static_cast<CUdeviceptr*>(out) = address;
      return kSuccess;
    case kHostPointer:
      if (on_device) return kInvalidValue;
      *static_cast<void**>(out) = to_pointer(address);
      return kSuccess;
    case kIsManaged:
      *static_cast<unsigned*>(out) = 0;
      return kSuccess;
    case kDeviceOrdinal:
      *static_cast<int*>(out) = found.device;
      return kSuccess;
    case kRangeStart:
      *static_cast<CUdeviceptr*>(out) = reinterpret_cast<CUdeviceptr>(found.base);
      return kSuccess;
    case kRangeSize:
      *static_cast<std::size_t*>(out) = found.bytes;
      return kSuccess;
    default:
      return kNotSupported;
  }
}

}  // namespace
}  // namespace emulator::cuda

using namespace emulator::cuda;

EMULATED CUresult cuPointerGetAttribute(void* out, int which, CUdeviceptr address) {
  if (const auto error = check_initialized()) return error;
  return out == nullptr ? kInvalidValue : attribute(out, which, address);
}

EMULATED CUresult cuPointerGetAttributes(unsigned count, int* which, void** out, CUdeviceptr address) {
  if (const auto error = check_initialized()) return error;
  if (which == nullptr || out == nullptr) return kInvalidValue;
  for (unsigned i = 0; i < count; ++i) {
    if (out[i] == nullptr) return kInvalidValue;
    // An unknown pointer is no error here: its attributes are left as they are.
    if (attribute(out[i], which[i], address) == kNotSupported) return kNotSupported;
  }
  return kSuccess;
}
