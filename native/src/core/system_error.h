// What the system says about a file, as an Error.
#pragma once

#include <string>

#include "core/error.h"

namespace weightcast {

/// "cannot write /models/a: No space left on device (ENOSPC)"; `path`, `call`, `errno` and `errnoName` are its
/// details.
Error file_error(const char* error_code, const std::string& what, const char* call, const std::string& path,
                 int number);

}  // namespace weightcast
