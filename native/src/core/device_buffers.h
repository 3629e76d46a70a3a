// The device buffers of one communicator, by number: a handle that outlives the communicator names nothing.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "core/device_session.h"
#include "core/sha256.h"

namespace weightcast {

using BufferId = std::uint64_t;

struct ByteSpan {
  std::uint64_t offset;
  std::uint64_t length;
};

struct StridedCopy {
  std::uint64_t source_offset;
  std::uint64_t block_bytes;
  std::uint64_t stride_bytes;
  std::uint64_t count;
  std::uint64_t target_offset;
};

class DeviceBuffers {
 public:
  explicit DeviceBuffers(DeviceSession& session) : session_(session) {}

  BufferId allocate(std::uint64_t length);
  /// The first `length` bytes of an allocation of another process. The driver counts how often it is open.
  /// @throws Error WC_NATIVE_ARGUMENT when the allocation is shorter, WC_CUDA_FAILED
  BufferId open(const CudaIpcHandle& handle, std::uint64_t length);
  /// Names the allocation for another process; valid while this buffer is. @throws Error
  CudaIpcHandle share(BufferId id) const;
  void free(BufferId id) { buffers_.erase(id); }

  /// Address of a span. @throws Error WC_NATIVE_CLOSED after free, WC_NATIVE_ARGUMENT outside the buffer
  DevicePointer at(BufferId id, ByteSpan span) const;
  void read(BufferId id, std::uint64_t offset, void* target, std::uint64_t length);
  void write(BufferId id, std::uint64_t offset, const void* bytes, std::uint64_t length);
  void copy(BufferId target, BufferId source, const StridedCopy& copy);
  std::vector<Digest> sha256(BufferId id, const std::vector<ByteSpan>& spans);

 private:
  struct Buffer {
    DevicePointer base;
    std::uint64_t length;
    DeviceMemory memory;  ///< ours, or
    IpcMemory mapping;    ///< somebody else's
  };

  DeviceSession& session_;
  std::map<BufferId, Buffer> buffers_;
  BufferId next_ = 1;
};

}  // namespace weightcast
