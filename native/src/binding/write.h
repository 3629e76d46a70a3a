#pragma once

#include "napi_config.h"

namespace weightcast::binding {

/// Binding.write of src/native.ts.
Napi::Value start_write(const Napi::CallbackInfo& info);

}  // namespace weightcast::binding
