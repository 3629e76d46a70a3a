// The part of the CUDA driver API that we use. Symbols carry their _v2 suffix where the plain name has 32-bit
// sizes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/call_watch.h"
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
/// CUipcMemHandle: names a whole allocation of another process. Passed by value.
struct CudaIpcHandle {
  unsigned char bytes[64];
};
/// CUDA_MEMCPY2D, device to device: `height` rows of `width` bytes, a pitch apart on each side.
struct CudaCopy2D {
  std::size_t source_x = 0, source_y = 0;
  unsigned source_kind = 2;
  const void* source_host = nullptr;
  DevicePointer source = 0;
  void* source_array = nullptr;
  std::size_t source_pitch = 0;
  std::size_t target_x = 0, target_y = 0;
  unsigned target_kind = 2;
  void* target_host = nullptr;
  DevicePointer target = 0;
  void* target_array = nullptr;
  std::size_t target_pitch = 0;
  std::size_t width = 0, height = 0;
};

namespace cuda {
inline constexpr int kSuccess = 0;
inline constexpr int kOutOfMemory = 2;
inline constexpr int kNoDevice = 100;
inline constexpr int kNotReady = 600;
inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kEventDisableTiming = 2;
inline constexpr unsigned kHostAllocPortable = 1;
inline constexpr unsigned kIpcLazyPeerAccess = 1;
/// The longest pitch that a 2D copy takes (CU_DEVICE_ATTRIBUTE_MAX_PITCH, the same on every device so far).
inline constexpr std::size_t kMostPitch = 2147483647;
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
  F(copy_rows, "cuMemcpy2DAsync_v2", (const CudaCopy2D* copy, CudaStream stream))           \
  F(address_range, "cuMemGetAddressRange_v2",                                               \
    (DevicePointer * base, std::size_t * bytes, DevicePointer pointer))                     \
  F(ipc_export, "cuIpcGetMemHandle", (CudaIpcHandle * handle, DevicePointer pointer))       \
  F(ipc_open, "cuIpcOpenMemHandle_v2",                                                      \
    (DevicePointer * pointer, CudaIpcHandle handle, unsigned flags))                        \
  F(ipc_close, "cuIpcCloseMemHandle", (DevicePointer pointer))                              \
  F(stream_create, "cuStreamCreate", (CudaStream * stream, unsigned flags))                 \
  F(stream_destroy, "cuStreamDestroy_v2", (CudaStream stream))                              \
  F(stream_wait, "cuStreamWaitEvent", (CudaStream stream, CudaEvent event, unsigned flags)) \
  F(event_create, "cuEventCreate", (CudaEvent * event, unsigned flags))                     \
  F(event_destroy, "cuEventDestroy_v2", (CudaEvent event))                                  \
  F(event_record, "cuEventRecord", (CudaEvent event, CudaStream stream))                    \
  F(event_query, "cuEventQuery", (CudaEvent event))                                         \
  F(error_name, "cuGetErrorName", (int result, const char** text))                          \
  F(error_string, "cuGetErrorString", (int result, const char** text))

enum class Memory { device, host };

struct CudaApi {
  /// @throws Error(WC_CUDA_NO_DRIVER) when the library is not a CUDA driver.
  explicit CudaApi(const Library& library);

#define WEIGHTCAST_MEMBER(name, symbol, arguments) LibraryCall<int arguments> name{symbol};
  WEIGHTCAST_CUDA_FUNCTIONS(WEIGHTCAST_MEMBER)
#undef WEIGHTCAST_MEMBER

  /// @throws Error(WC_CUDA_OUT_OF_MEMORY or WC_CUDA_FAILED) unless `result` is success.
  void check(int result, const char* call) const;
  /// The same for an allocation: an error says how much was asked for, and how much a device has.
  void check_allocation(int result, const char* call, std::size_t bytes, Memory where) const;
  /// "CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected"
  std::string describe(int result) const;
};

}  // namespace weightcast
