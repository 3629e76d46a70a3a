// The part of the CUDA driver API that we use. Symbols carry their _v2 suffix where the plain name has 32-bit
// sizes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/library.h"

namespace weightcast {

using CudaDevice = int;
using DevicePointer = std::uint64_t;
struct CudaContextTag;
struct CudaStreamTag;
struct CudaEventTag;
using CudaContext = CudaContextTag*;
using CudaStream = CudaStreamTag*;
using CudaEvent = CudaEventTag*;
struct CudaUuid {
  unsigned char bytes[16];
};

namespace cuda {
inline constexpr int kSuccess = 0;
inline constexpr int kOutOfMemory = 2;
inline constexpr int kNoDevice = 100;
inline constexpr int kNotReady = 600;
inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kEventDisableTiming = 2;
inline constexpr unsigned kHostAllocPortable = 1;
}  // namespace cuda

#define WEIGHTCAST_CUDA_FUNCTIONS(F)                                                        \
  F(init, "cuInit", (unsigned flags))                                                       \
  F(driver_version, "cuDriverGetVersion", (int* version))                                   \
  F(device_count, "cuDeviceGetCount", (int* count))                                         \
  F(device_get, "cuDeviceGet", (CudaDevice * device, int ordinal))                          \
  F(device_name, "cuDeviceGetName", (char* name, int length, CudaDevice device))            \
  F(device_uuid, "cuDeviceGetUuid_v2", (CudaUuid * uuid, CudaDevice device))                \
  F(device_memory, "cuDeviceTotalMem_v2", (std::size_t * bytes, CudaDevice device))         \
  F(primary_retain, "cuDevicePrimaryCtxRetain", (CudaContext * context, CudaDevice device)) \
  F(set_current, "cuCtxSetCurrent", (CudaContext context))                                  \
  F(memory_info, "cuMemGetInfo_v2", (std::size_t * free, std::size_t * total))              \
  F(allocate, "cuMemAlloc_v2", (DevicePointer * pointer, std::size_t bytes))                \
  F(release, "cuMemFree_v2", (DevicePointer pointer))                                       \
  F(host_allocate, "cuMemHostAlloc", (void** pointer, std::size_t bytes, unsigned flags))   \
  F(host_release, "cuMemFreeHost", (void* pointer))                                         \
  F(copy_to_device, "cuMemcpyHtoDAsync_v2",                                                 \
    (DevicePointer target, const void* source, std::size_t bytes, CudaStream stream))       \
  F(copy_to_host, "cuMemcpyDtoHAsync_v2",                                                   \
    (void* target, DevicePointer source, std::size_t bytes, CudaStream stream))             \
  F(copy_on_device, "cuMemcpyDtoDAsync_v2",                                                 \
    (DevicePointer target, DevicePointer source, std::size_t bytes, CudaStream stream))     \
  F(stream_create, "cuStreamCreate", (CudaStream * stream, unsigned flags))                 \
  F(stream_destroy, "cuStreamDestroy_v2", (CudaStream stream))                              \
  F(stream_wait, "cuStreamWaitEvent", (CudaStream stream, CudaEvent event, unsigned flags)) \
  F(event_create, "cuEventCreate", (CudaEvent * event, unsigned flags))                     \
  F(event_destroy, "cuEventDestroy_v2", (CudaEvent event))                                  \
  F(event_record, "cuEventRecord", (CudaEvent event, CudaStream stream))                    \
  F(event_query, "cuEventQuery", (CudaEvent event))                                         \
  F(error_name, "cuGetErrorName", (int result, const char** text))                          \
  F(error_string, "cuGetErrorString", (int result, const char** text))

struct CudaApi {
  /// @throws Error(WC_CUDA_NO_DRIVER) when the library is not a CUDA driver.
  explicit CudaApi(const Library& library);

#define WEIGHTCAST_MEMBER(name, symbol, arguments) int(*name) arguments = nullptr;
  WEIGHTCAST_CUDA_FUNCTIONS(WEIGHTCAST_MEMBER)
#undef WEIGHTCAST_MEMBER

  /// @throws Error(WC_CUDA_OUT_OF_MEMORY or WC_CUDA_FAILED) unless `result` is success.
  void check(int result, const char* call) const;
  /// "CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected"
  std::string describe(int result) const;
};

}  // namespace weightcast
