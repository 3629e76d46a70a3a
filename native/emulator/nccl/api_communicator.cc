#include "common/faults.h"
#include "nccl/group.h"
#include "nccl/log.h"
#include "nccl/registry.h"

namespace emulator::nccl {
namespace {

ncclResult_t query(const char* caller, ncclComm_t comm, int* out, int (Communicator::*value)() const) {
  std::shared_ptr<Communicator> communicator;
  if (const auto error = need_communicator(caller, comm, communicator)) return error;
  if (out == nullptr) return fail(kInvalidArgument, "%s : out argument is NULL", caller);
  if (const auto error = communicator->ready(caller)) return error;
  *out = ((*communicator).*value)();
  return kSuccess;
}

}  // namespace
}  // namespace emulator::nccl

using namespace emulator::nccl;

EMULATED ncclResult_t ncclCommCount(ncclComm_t comm, int* count) {
  return query("CommCount", comm, count, &Communicator::ranks);
}
EMULATED ncclResult_t ncclCommUserRank(ncclComm_t comm, int* rank) {
  return query("CommUserRank", comm, rank, &Communicator::rank);
}
EMULATED ncclResult_t ncclCommCuDevice(ncclComm_t comm, int* device) {
  return query("CommCuDevice", comm, device, &Communicator::device);
}

EMULATED ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  emulator::hang_if_told("ncclCommGetAsyncError");
  std::shared_ptr<Communicator> communicator;
  if (const auto error = need_communicator("ncclGetAsyncError", comm, communicator)) return error;
  if (state == nullptr) return fail(kInvalidArgument, "ncclGetAsyncError : asyncError argument is NULL");
  *state = communicator->state();
  return kSuccess;
}

EMULATED ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  emulator::hang_if_told("ncclCommFinalize");
  if (comm == nullptr) return kSuccess;
  std::shared_ptr<Communicator> communicator;
  if (const auto error = need_communicator("CommFinalize", comm, communicator)) return error;
  if (const auto error = communicator->ready("CommFinalize")) {
    // Measured: a Finalize that is refused because an operation is in progress ends that state.
    if (error == kInvalidArgument) communicator->set_state(kInvalidArgument);
    return error;
  }
  return communicator->finalize();
}

EMULATED ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  emulator::hang_if_told("ncclCommDestroy");
  if (comm == nullptr) return kSuccess;
  std::shared_ptr<Communicator> communicator;
  if (const auto error = need_communicator("CommDestroy", comm, communicator)) return error;
  const auto result = communicator->destroy();
  if (result == kSuccess) remove_communicator(comm);
  if (result == kInvalidArgument && emulator::faults().group_depth_leak) leak_group_depth();
  return result;
}

EMULATED ncclResult_t ncclCommAbort(ncclComm_t comm) {
  emulator::hang_if_told("ncclCommAbort");
  if (comm == nullptr) return kSuccess;
  std::shared_ptr<Communicator> communicator;
  if (const auto error = need_communicator("CommAbort", comm, communicator)) return error;
  remove_communicator(comm);
  communicator->abort();
  return kSuccess;
}

EMULATED ncclResult_t ncclGroupStart() {
  group_start();
  return kSuccess;
}
EMULATED ncclResult_t ncclGroupEnd() { return group_end(); }
