#include <cstdlib>

#include "nccl/join.h"
#include "nccl/log.h"
#include "nccl/registry.h"

namespace emulator::nccl {
namespace {

/** Registration changes nothing over host memory; the handle is the buffer's address. */
ncclResult_t register_buffer(const char* caller, ncclComm_t comm, void* buffer, void** handle) {
  std::shared_ptr<Communicator> communicator;
  if (const auto error = need_communicator(caller, comm, communicator)) return error;
  if (handle == nullptr || buffer == nullptr)
    return fail(kInvalidArgument, "%s : a pointer argument is NULL", caller);
  *handle = buffer;
  return kSuccess;
}

ncclResult_t deregister_buffer(const char* caller, ncclComm_t comm) {
  std::shared_ptr<Communicator> communicator;
  return need_communicator(caller, comm, communicator);
}

}  // namespace
}  // namespace emulator::nccl

using namespace emulator::nccl;

EMULATED ncclResult_t ncclMemAlloc(void** pointer, std::size_t bytes) {
  if (pointer == nullptr || bytes == 0) return fail(kInvalidArgument, "MemAlloc : invalid pointer or size");
  if (const auto error = check_cuda()) return error;
  constexpr std::size_t kAlignment = 4096;
  *pointer = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  return *pointer != nullptr ? kSuccess : fail(kUnhandledCudaError, "Cuda failure 'out of memory'");
}
EMULATED ncclResult_t ncclMemFree(void* pointer) {
  if (const auto error = check_cuda()) return error;
  std::free(pointer);
  return kSuccess;
}

EMULATED ncclResult_t ncclCommRegister(ncclComm_t comm, void* buffer, std::size_t, void** handle) {
  return register_buffer("CommRegister", comm, buffer, handle);
}
EMULATED ncclResult_t ncclCommDeregister(ncclComm_t comm, void*) {
  return deregister_buffer("CommDeregister", comm);
}
EMULATED ncclResult_t ncclCommWindowRegister(ncclComm_t comm, void* buffer, std::size_t, ncclWindow_t* window,
                                             int) {
  return register_buffer("CommWindowRegister", comm, buffer, window);
}
EMULATED ncclResult_t ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t) {
  return deregister_buffer("CommWindowDeregister", comm);
}
EMULATED ncclResult_t ncclWinGetUserPtr(ncclComm_t comm, ncclWindow_t window, void** pointer) {
  return register_buffer("WinGetUserPtr", comm, window, pointer);
}
