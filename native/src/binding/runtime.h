#pragma once

#include <memory>

#include "binding/handle.h"
#include "core/runtime.h"

namespace weightcast::binding {

/// NativeRuntime of src/native.ts.
class RuntimeHandle {
 public:
  static constexpr napi_type_tag kTag = {0x2f93d8c16b04e57a, 0xd1a5704c8be2693f};
  static constexpr const char* kName = "Runtime";
  static void define(Napi::Env env);

  explicit RuntimeHandle(std::shared_ptr<const Runtime> runtime) : runtime_(std::move(runtime)) {}

 private:
  Napi::Value cuda_library(const Napi::CallbackInfo& info);
  Napi::Value nccl_library(const Napi::CallbackInfo& info);
  Napi::Value nccl_version(const Napi::CallbackInfo& info);
  Napi::Value driver_version(const Napi::CallbackInfo& info);
  Napi::Value emulated(const Napi::CallbackInfo& info);
  Napi::Value devices(const Napi::CallbackInfo& info);
  Napi::Value memory(const Napi::CallbackInfo& info);
  Napi::Value unique_id(const Napi::CallbackInfo& info);
  Napi::Value communicator(const Napi::CallbackInfo& info);
  /// Of one call: the caller's, if that is shorter.
  double limit(Napi::Value timeout) const;

  std::shared_ptr<const Runtime> runtime_;
};

/// Binding.open of src/native.ts.
Napi::Value open_runtime(const Napi::CallbackInfo& info);

}  // namespace weightcast::binding
