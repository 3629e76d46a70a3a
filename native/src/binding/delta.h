#pragma once

#include "napi_config.h"

namespace weightcast::binding {

/// Binding.diff of src/native.ts.
Napi::Value start_diff(const Napi::CallbackInfo& info);

}  // namespace weightcast::binding
