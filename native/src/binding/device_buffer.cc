#include "binding/device_buffer.h"

#include "binding/arguments.h"
#include "binding/values.h"

namespace weightcast::binding {
namespace {

/// Node 20 has no typed array of 4 GiB or more.
constexpr std::uint64_t kMostRead = std::uint64_t(2) << 30;

}  // namespace

void DeviceBuffer::define(Napi::Env env) {
  binding::define<DeviceBuffer>(env, {
                                         getter<DeviceBuffer, &DeviceBuffer::byte_length>("byteLength"),
                                         async_method<DeviceBuffer, &DeviceBuffer::read>("read"),
                                         async_method<DeviceBuffer, &DeviceBuffer::write>("write"),
                                         async_method<DeviceBuffer, &DeviceBuffer::copy_from>("copyFrom"),
                                         async_method<DeviceBuffer, &DeviceBuffer::sha256>("sha256"),
                                         async_method<DeviceBuffer, &DeviceBuffer::ipc_handle>("ipcHandle"),
                                         async_method<DeviceBuffer, &DeviceBuffer::free>("free"),
                                     });
}

DeviceBuffer::~DeviceBuffer() {
  communicator_->free(id_, [](Outcome<Unit>) {});
}

ByteSpan DeviceBuffer::span(std::uint64_t offset, std::uint64_t length) const {
  if (offset > length_ || length > length_ - offset) {
    throw Error(code::kArgument, "bytes " + std::to_string(offset) + " + " + std::to_string(length) +
                                     " lie outside the buffer of " + std::to_string(length_) + " bytes");
  }
  return {offset, length};
}

Napi::Value DeviceBuffer::byte_length(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), double(length_));
}

Napi::Value DeviceBuffer::read(const Napi::CallbackInfo& info) {
  const auto range = span(integer(info[0], "offset"), integer(info[1], "byteLength", kMostRead));
  auto bytes = std::make_shared<Bytes>(
      Bytes{std::make_unique_for_overwrite<std::uint8_t[]>(range.length), range.length});
  return promise<Unit>(
      info, [bytes](Napi::Env env, Unit) { return to_bytes(env, std::move(*bytes)); },
      [&](Done<Unit> done, OperationId) {
        communicator_->read(id_, range.offset, bytes->data.get(), range.length, std::move(done));
      });
}

Napi::Value DeviceBuffer::write(const Napi::CallbackInfo& info) {
  const auto source = bytes(info[1], "bytes");
  const auto range = span(integer(info[0], "offset"), source.size());
  return promise<Unit>(
      info, to_undefined,
      [&](Done<Unit> done, OperationId) {
        communicator_->write(id_, range.offset, source.data(), range.length, std::move(done));
      },
      {}, info[1]);
}

Napi::Value DeviceBuffer::copy_from(const Napi::CallbackInfo& info) {
  const auto& source = unwrap<DeviceBuffer>(info[0]);
  if (source.communicator_ != communicator_) refuse("source", "a buffer of the same communicator");
  const auto options = object(info[1], "options");
  const StridedCopy copy{integer(options, "sourceOffset"), integer(options, "blockBytes"),
                         integer(options, "strideBytes"), integer(options, "count"),
                         integer(options, "targetOffset")};
  if (copy.count > 0 && copy.block_bytes > 0) {
    const std::uint64_t blocks = copy.count;
    if (blocks > 1 && copy.stride_bytes < copy.block_bytes) refuse("strideBytes", "at least blockBytes");
    // In 128 bits, so that no product wraps.
    const auto extent = static_cast<unsigned __int128>(blocks - 1) * copy.stride_bytes + copy.block_bytes;
    const auto packed = static_cast<unsigned __int128>(blocks) * copy.block_bytes;
    if (extent > source.length_ || packed > length_) refuse("blocks", "inside both buffers");
    source.span(copy.source_offset, std::uint64_t(extent));
    span(copy.target_offset, std::uint64_t(packed));
  }
  return promise<Unit>(info, to_undefined, [&](Done<Unit> done, OperationId) {
    communicator_->copy(id_, source.id_, copy, std::move(done));
  });
}

Napi::Value DeviceBuffer::sha256(const Napi::CallbackInfo& info) {
  const auto list = array(info[0], "ranges");
  std::vector<ByteSpan> spans;
  for (std::uint32_t i = 0; i < list.Length(); ++i) {
    const auto range = object(list.Get(i), "ranges");
    spans.push_back(span(integer(range, "offset"), integer(range, "byteLength")));
  }
  auto convert = [](Napi::Env env, std::vector<Digest> digests) {
    auto result = Napi::Array::New(env, digests.size());
    for (std::uint32_t i = 0; i < digests.size(); ++i) {
      result.Set(i, to_bytes(env, digests[i].data(), digests[i].size()));
    }
    return result;
  };
  return promise<std::vector<Digest>>(info, convert, [&](Done<std::vector<Digest>> done, OperationId) {
    communicator_->sha256(id_, std::move(spans), std::move(done));
  });
}

Napi::Value DeviceBuffer::ipc_handle(const Napi::CallbackInfo& info) {
  return promise<CudaIpcHandle>(
      info,
      [](Napi::Env env, const CudaIpcHandle& handle) {
        return to_bytes(env, handle.bytes, sizeof handle.bytes);
      },
      [&](Done<CudaIpcHandle> done, OperationId) { communicator_->share(id_, std::move(done)); });
}

Napi::Value DeviceBuffer::free(const Napi::CallbackInfo& info) {
  return promise<Unit>(info, to_undefined,
                       [&](Done<Unit> done, OperationId) { communicator_->free(id_, std::move(done)); });
}

}  // namespace weightcast::binding
