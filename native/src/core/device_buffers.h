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
  void free(BufferId id) { buffers_.erase(id); }

  /// Address of a span. @throws Error WC_NATIVE_CLOSED after free, WC_NATIVE_ARGUMENT outside the buffer
  DevicePointer at(BufferId id, ByteSpan span) const;
  void read(BufferId id, std::uint64_t offset, void* target, std::uint64_t length);
  void write(BufferId id, std::uint64_t offset, const void* bytes, std::uint64_t length);
  void copy(BufferId target, BufferId source, const StridedCopy& copy);
  std::vector<Digest> sha256(BufferId id, const std::vector<ByteSpan>& spans);

 private:
  struct Buffer {
    DeviceMemory memory;
    std::uint64_t length;
  };

  DeviceSession& session_;
  std::map<BufferId, Buffer> buffers_;
  BufferId next_ = 1;
};

}  // namespace weightcast
