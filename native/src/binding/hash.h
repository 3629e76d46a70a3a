#pragma once

#include <memory>

#include "binding/handle.h"
#include "core/hash_job.h"

namespace weightcast::binding {

/// NativeHash of src/native.ts.
class HashHandle {
 public:
  static constexpr napi_type_tag kTag = {0x7ae50c3b91d84f26, 0xb2c96d1e40f7835a};
  static constexpr const char* kName = "Hash";
  static void define(Napi::Env env);

  explicit HashHandle(std::shared_ptr<HashJob> job) : job_(std::move(job)) {}

 private:
  Napi::Value cancel(const Napi::CallbackInfo& info);

  std::shared_ptr<HashJob> job_;
};

/// Binding.sha256 of src/native.ts.
Napi::Value start_hash(const Napi::CallbackInfo& info);

}  // namespace weightcast::binding
