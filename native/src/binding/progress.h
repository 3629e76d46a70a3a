#pragma once

#include <cstdint>
#include <functional>

#include "binding/environment.h"

namespace weightcast::binding {

/// For the core: tells the operation's progress function, if there is one, a number of bytes.
std::function<void(std::uint64_t bytes)> byte_progress(Napi::Value on_progress, OperationId id);

}  // namespace weightcast::binding
