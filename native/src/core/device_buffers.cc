#include "core/device_buffers.h"

#include <cstring>

#include "core/error.h"

namespace weightcast {

BufferId DeviceBuffers::allocate(std::uint64_t length) {
  auto memory = make_device_memory(session_.cuda(), length);
  const BufferId id = next_++;
  const auto base = memory.get();
  buffers_.emplace(id, Buffer{base, length, std::move(memory), {}});
  return id;
}

BufferId DeviceBuffers::open(const CudaIpcHandle& handle, std::uint64_t length) {
  const auto& cuda = session_.cuda();
  DevicePointer base = 0;
  cuda.check(cuda.ipc_open(&base, handle, cuda::kIpcLazyPeerAccess), "cuIpcOpenMemHandle");
  IpcMemory mapping(cuda, base);
  std::size_t extent = 0;
  cuda.check(cuda.address_range(nullptr, &extent, base), "cuMemGetAddressRange");
  if (length > extent) {
    throw Error(code::kArgument, "the handle names an allocation of " + std::to_string(extent) +
                                     " bytes, not of " + std::to_string(length));
  }
  const BufferId id = next_++;
  buffers_.emplace(id, Buffer{base, length, {}, std::move(mapping)});
  return id;
}

CudaIpcHandle DeviceBuffers::share(BufferId id) const {
  const auto& cuda = session_.cuda();
  CudaIpcHandle handle{};
  cuda.check(cuda.ipc_export(&handle, at(id, {0, 0})), "cuIpcGetMemHandle");
  return handle;
}

DevicePointer DeviceBuffers::at(BufferId id, ByteSpan span) const {
  const auto found = buffers_.find(id);
  if (found == buffers_.end()) throw Error(code::kClosed, "the device buffer was freed");
  const auto& buffer = found->second;
  if (span.offset > buffer.length || span.length > buffer.length - span.offset) {
    throw Error(code::kArgument, "bytes " + std::to_string(span.offset) + " + " +
                                     std::to_string(span.length) + " lie outside a device buffer of " +
                                     std::to_string(buffer.length) + " bytes");
  }
  return buffer.base + span.offset;
}

void DeviceBuffers::read(BufferId id, std::uint64_t offset, void* target, std::uint64_t length) {
  const auto source = at(id, {offset, length});
  auto* to = static_cast<char*>(target);
  session_.read(source, length, [&to](const void* bytes, std::size_t size) {
    std::memcpy(to, bytes, size);
    to += size;
  });
}

void DeviceBuffers::write(BufferId id, std::uint64_t offset, const void* bytes, std::uint64_t length) {
  session_.write(at(id, {offset, length}), bytes, length);
}

void DeviceBuffers::copy(BufferId target, BufferId source, const StridedCopy& copy) {
  if (copy.count == 0 || copy.block_bytes == 0) return;
  const bool packed = copy.stride_bytes == copy.block_bytes;
  const std::uint64_t blocks = packed ? 1 : copy.count;
  const std::uint64_t block_bytes = packed ? copy.block_bytes * copy.count : copy.block_bytes;
  const std::uint64_t extent = (blocks - 1) * copy.stride_bytes + block_bytes;
  const auto from = at(source, {copy.source_offset, extent});
  const auto to = at(target, {copy.target_offset, blocks * block_bytes});
  const auto& cuda = session_.cuda();
  if (blocks > 1 && copy.stride_bytes <= cuda::kMostPitch) {
    CudaCopy2D rows;
    rows.source = from;
    rows.source_pitch = copy.stride_bytes;
    rows.target = to;
    rows.target_pitch = block_bytes;
    rows.width = block_bytes;
    rows.height = blocks;
    cuda.check(cuda.copy_rows(&rows, session_.copies()), "cuMemcpy2DAsync");
    session_.drain_copies();
    return;
  }
  for (std::uint64_t i = 0; i < blocks; ++i) {
    cuda.check(cuda.copy_on_device(to + i * block_bytes, from + i * copy.stride_bytes, block_bytes,
                                   session_.copies()),
               "cuMemcpyDtoDAsync");
  }
  session_.drain_copies();
}

std::vector<Digest> DeviceBuffers::sha256(BufferId id, const std::vector<ByteSpan>& spans) {
  std::vector<Digest> digests;
  for (const auto& span : spans) {
    Sha256 hash;
    session_.read(at(id, span), span.length,
                  [&hash](const void* bytes, std::size_t size) { hash.update(bytes, size); });
    digests.push_back(hash.finish());
  }
  return digests;
}

}  // namespace weightcast
