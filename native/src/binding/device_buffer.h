#pragma once

#include <memory>

#include "binding/handle.h"
#include "core/communicator.h"

namespace weightcast::binding {

/// NativeDeviceBuffer of src/native.ts.
class DeviceBuffer {
 public:
  static constexpr napi_type_tag kTag = {0x5d1f6a8e2b3c4f70, 0x9a41c7e05b6d8213};
  static constexpr const char* kName = "DeviceBuffer";
  static void define(Napi::Env env);

  DeviceBuffer(std::shared_ptr<Communicator> communicator, BufferId id, std::uint64_t length)
      : communicator_(std::move(communicator)), id_(id), length_(length) {}
  ~DeviceBuffer();

  const std::shared_ptr<Communicator>& communicator() const { return communicator_; }
  BufferId id() const { return id_; }
  std::uint64_t length() const { return length_; }

 private:
  Napi::Value byte_length(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value write(const Napi::CallbackInfo& info);
  Napi::Value copy_from(const Napi::CallbackInfo& info);
  Napi::Value sha256(const Napi::CallbackInfo& info);
  Napi::Value ipc_handle(const Napi::CallbackInfo& info);
  Napi::Value free(const Napi::CallbackInfo& info);
  /// A span of this buffer. @throws Error(WC_NATIVE_ARGUMENT)
  ByteSpan span(std::uint64_t offset, std::uint64_t length) const;

  std::shared_ptr<Communicator> communicator_;
  BufferId id_;
  std::uint64_t length_;
};

}  // namespace weightcast::binding
