#include <dlfcn.h>

#include "common/faults.h"
#include "nccl/join.h"
#include "nccl/log.h"

namespace emulator::nccl {
namespace {

template <typename Function>
Function* symbol(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

}  // namespace

DeviceIdentity current_device() {
  DeviceIdentity identity;
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) return identity;
  // A real libcuda in this process is none of our business.
  if (dlsym(library, "weightcast_emulation") != nullptr) {
    // Without a current context the real library works on device 0.
    int device = 0;
    if (symbol<int(int*)>(library, "cuCtxGetDevice")(&device) != 0) device = 0;
    identity.ordinal = device;
    identity.known =
        symbol<int(unsigned char*, int)>(library, "cuDeviceGetUuid_v2")(identity.uuid, device) == 0;
  }
  dlclose(library);
  return identity;
}

ncclResult_t check_cuda() {
  if (faults().no_driver || faults().driver_too_old) {
    return fail(kUnhandledCudaError,
                "Cuda failure 'CUDA driver version is insufficient for CUDA runtime version'");
  }
  return faults().no_device ? fail(kUnhandledCudaError, "Cuda failure 'no CUDA-capable device is detected'")
                            : kSuccess;
}

}  // namespace emulator::nccl
