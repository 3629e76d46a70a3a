// Plans of the delta engine, read from JavaScript and checked.
#pragma once

#include "core/sparse_diff.h"
#include "napi_config.h"

namespace weightcast::binding {

/// @throws Error(WC_NATIVE_ARGUMENT) when the plan contradicts itself
SparsePlan to_sparse_plan(Napi::Value value);

}  // namespace weightcast::binding
