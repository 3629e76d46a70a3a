#pragma once

#include <memory>

#include "core/communicator.h"
#include "core/hash_job.h"
#include "core/write_plan.h"
#include "napi_config.h"

namespace weightcast::binding {

/// NativePlan of src/native.ts; its device buffers must belong to `communicator`. @throws
/// Error(WC_NATIVE_ARGUMENT)
Plan to_plan(Napi::Value value, const std::shared_ptr<Communicator>& communicator);
/// HashJob of src/native.ts. @throws Error(WC_NATIVE_ARGUMENT)
HashPlan to_hash_plan(Napi::Value value);
/// WriteJob of src/native.ts. @throws Error(WC_NATIVE_ARGUMENT)
WritePlan to_write_plan(Napi::Value value);

}  // namespace weightcast::binding
