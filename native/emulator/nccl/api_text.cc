#include "nccl/log.h"

using namespace emulator::nccl;

EMULATED ncclResult_t ncclGetVersion(int* out) {
  if (out == nullptr) return fail(kInvalidArgument, "GetVersion : version argument is NULL");
  *out = version();
  return kSuccess;
}

EMULATED const char* ncclGetErrorString(ncclResult_t code) {
  switch (code) {
    case 0:
      return "no error";
    case 1:
      return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
    case 2:
      return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    case 3:
      return "internal error - please report this issue to the NCCL developers";
    case 4:
      return "invalid argument (run with NCCL_DEBUG=WARN for details)";
    case 5:
      return "invalid usage (run with NCCL_DEBUG=WARN for details)";
    case 6:
      return "remote process exited or there was a network error";
    case 7:
      return "NCCL operation in progress";
    case 8:
      return "timeout";
    default:
      return "unknown result code";
  }
}

EMULATED const char* ncclGetLastError(void*) { return last_error(); }
EMULATED void ncclResetDebugInit() {}
EMULATED void ncclResetDebugInitInternal() {}
