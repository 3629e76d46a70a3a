#pragma once

#include "napi_config.h"

namespace weightcast::binding {

/// Binding.scanHeader of src/native.ts.
Napi::Value start_header_scan(const Napi::CallbackInfo& info);

}  // namespace weightcast::binding
