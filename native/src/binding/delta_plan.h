// Plans of the delta engine, read from JavaScript and checked.
#pragma once

#include "core/delta_apply.h"
#include "core/delta_encode.h"
#include "core/sparse_diff.h"
#include "napi_config.h"

namespace weightcast::binding {

// All of these: @throws Error(WC_NATIVE_ARGUMENT) when the plan contradicts itself
SparsePlan to_sparse_plan(Napi::Value value);
/// `zstd` is not set.
EncodePlan to_encode_plan(Napi::Value value);
ApplyPlan to_apply_plan(Napi::Value value);

}  // namespace weightcast::binding
