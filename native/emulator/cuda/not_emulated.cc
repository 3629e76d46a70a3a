#include "cuda/abi.h"

// Present, so that programs which bind them at load start; each answers "operation not supported". A C
// function may be called with more arguments than it declares.
#define NOT_EMULATED(name) \
  EMULATED CUresult name() { return emulator::cuda::kNotSupported; }

NOT_EMULATED(cuCtxCreate_v2)
NOT_EMULATED(cuCtxDestroy_v2)
NOT_EMULATED(cuCtxEnablePeerAccess)
NOT_EMULATED(cuDevicePrimaryCtxReset_v2)

// Green contexts and device resources (SGLang's kernels bind these).
NOT_EMULATED(cuCtxFromGreenCtx)
NOT_EMULATED(cuCtxGetDevResource)
NOT_EMULATED(cuDevResourceGenerateDesc)
NOT_EMULATED(cuDevSmResourceSplitByCount)
NOT_EMULATED(cuDeviceGetDevResource)
NOT_EMULATED(cuGreenCtxCreate)
NOT_EMULATED(cuGreenCtxDestroy)
NOT_EMULATED(cuGreenCtxGetDevResource)
NOT_EMULATED(cuGreenCtxRecordEvent)
NOT_EMULATED(cuGreenCtxStreamCreate)
NOT_EMULATED(cuGreenCtxWaitEvent)
NOT_EMULATED(cuStreamGetGreenCtx)

NOT_EMULATED(cuIpcGetEventHandle)
NOT_EMULATED(cuIpcOpenEventHandle)

NOT_EMULATED(cuMemAddressFree)
NOT_EMULATED(cuMemAddressReserve)
NOT_EMULATED(cuMemCreate)
NOT_EMULATED(cuMemExportToShareableHandle)
NOT_EMULATED(cuMemGetAllocationGranularity)
NOT_EMULATED(cuMemGetHandleForAddressRange)
NOT_EMULATED(cuMemImportFromShareableHandle)
NOT_EMULATED(cuMemMap)
NOT_EMULATED(cuMemRelease)
NOT_EMULATED(cuMemSetAccess)
NOT_EMULATED(cuMemUnmap)

NOT_EMULATED(cuKernelGetFunction)
NOT_EMULATED(cuLaunchKernel)
NOT_EMULATED(cuLaunchKernelEx)
NOT_EMULATED(cuLibraryLoadData)
NOT_EMULATED(cuModuleGetFunction)
NOT_EMULATED(cuModuleLoadData)
NOT_EMULATED(cuModuleUnload)
NOT_EMULATED(cuStreamBeginCapture_v2)
NOT_EMULATED(cuStreamEndCapture)
