#pragma once
#include "nccl/abi.h"

namespace emulator::nccl {

/** Keeps the text for ncclGetLastError, writes it to stderr when NCCL_DEBUG asks for warnings, and returns
 * `code`. */
__attribute__((format(printf, 2, 3))) ncclResult_t fail(ncclResult_t code, const char* format, ...);
/** A line on stderr when NCCL_DEBUG asks for warnings; no error. */
__attribute__((format(printf, 1, 2))) void warn(const char* format, ...);
/** A line on stderr when NCCL_DEBUG=INFO. */
__attribute__((format(printf, 1, 2))) void inform(const char* format, ...);
const char* last_error();

}  // namespace emulator::nccl
