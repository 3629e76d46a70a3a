#pragma once

#include "napi_config.h"

namespace weightcast::binding {

/// Binding.sha256 of src/native.ts.
Napi::Value start_hash(const Napi::CallbackInfo& info);

}  // namespace weightcast::binding
