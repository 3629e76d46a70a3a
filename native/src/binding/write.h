#pragma once

#include <memory>

#include "binding/handle.h"
#include "core/write_job.h"

namespace weightcast::binding {

/// NativeWrite of src/native.ts.
class WriteHandle {
 public:
  static constexpr napi_type_tag kTag = {0x91e3d45b7c0a2f68, 0x3ad8f17062c9be54};
  static constexpr const char* kName = "Write";
  static void define(Napi::Env env);

  explicit WriteHandle(std::shared_ptr<WriteJob> job) : job_(std::move(job)) {}

 private:
  Napi::Value cancel(const Napi::CallbackInfo& info);

  std::shared_ptr<WriteJob> job_;
};

/// Binding.write of src/native.ts.
Napi::Value start_write(const Napi::CallbackInfo& info);

}  // namespace weightcast::binding
