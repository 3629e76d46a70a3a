#pragma once

#include "napi_config.h"

namespace weightcast::binding {

/// Binding.diff of src/native.ts.
Napi::Value start_diff(const Napi::CallbackInfo& info);
/// Binding.encodeDelta and Binding.applyDelta.
Napi::Value start_encode(const Napi::CallbackInfo& info);
Napi::Value start_apply(const Napi::CallbackInfo& info);
/// Binding.zstd: what libzstd it is.
Napi::Value describe_zstd(const Napi::CallbackInfo& info);

}  // namespace weightcast::binding
