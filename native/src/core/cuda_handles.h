// Owners of CUDA things. They live and die on the thread that has the context current.
#pragma once

#include <cstddef>
#include <utility>

#include "core/cuda_api.h"

namespace weightcast {

template <class Handle, auto Release>
class CudaOwned {
 public:
  CudaOwned() = default;
  CudaOwned(const CudaApi& api, Handle handle) : api_(&api), handle_(handle) {}
  CudaOwned(CudaOwned&& other) noexcept
      : api_(std::exchange(other.api_, nullptr)), handle_(std::exchange(other.handle_, Handle{})) {}
  CudaOwned& operator=(CudaOwned&& other) noexcept {
    std::swap(api_, other.api_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~CudaOwned() {
    if (api_ != nullptr && handle_ != Handle{}) (api_->*Release)(handle_);
  }

  Handle get() const { return handle_; }

 private:
  const CudaApi* api_ = nullptr;
  Handle handle_{};
};

using DeviceMemory = CudaOwned<DevicePointer, &CudaApi::release>;
using IpcMemory = CudaOwned<DevicePointer, &CudaApi::ipc_close>;
using PinnedMemory = CudaOwned<void*, &CudaApi::host_release>;
using Stream = CudaOwned<CudaStream, &CudaApi::stream_destroy>;
using Event = CudaOwned<CudaEvent, &CudaApi::event_destroy>;

inline DeviceMemory make_device_memory(const CudaApi& api, std::size_t bytes) {
  DevicePointer pointer = 0;
  if (bytes > 0) api.check_allocation(api.allocate(&pointer, bytes), "cuMemAlloc", bytes, Memory::device);
  return {api, pointer};
}

inline PinnedMemory make_pinned_memory(const CudaApi& api, std::size_t bytes) {
  void* pointer = nullptr;
  api.check_allocation(api.host_allocate(&pointer, bytes, cuda::kHostAllocPortable), "cuMemHostAlloc", bytes,
                       Memory::host);
  return {api, pointer};
}

inline Stream make_stream(const CudaApi& api) {
  CudaStream stream = nullptr;
  api.check(api.stream_create(&stream, cuda::kStreamNonBlocking), "cuStreamCreate");
  return {api, stream};
}

inline Event make_event(const CudaApi& api) {
  CudaEvent event = nullptr;
  api.check(api.event_create(&event, cuda::kEventDisableTiming), "cuEventCreate");
  return {api, event};
}

/// True when everything recorded before `event` is done. @throws Error when the device failed.
inline bool is_done(const CudaApi& api, const Event& event) {
  const int result = api.event_query(event.get());
  if (result == cuda::kNotReady) return false;
  api.check(result, "cuEventQuery");
  return true;
}

}  // namespace weightcast
