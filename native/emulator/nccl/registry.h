#pragma once
#include <memory>

#include "nccl/communicator.h"

namespace emulator::nccl {

/**
 * ncclComm_t values are names, not addresses, and never come back: a second destroy finds nothing and answers
 * kInvalidArgument, where the real library crashes.
 */
ncclComm_t add_communicator(std::shared_ptr<Communicator> communicator);
std::shared_ptr<Communicator> find_communicator(ncclComm_t handle);
void remove_communicator(ncclComm_t handle);

/** find_communicator, or kInvalidArgument with the real library's text. */
ncclResult_t need_communicator(const char* caller, ncclComm_t handle,
                               std::shared_ptr<Communicator>& communicator);

}  // namespace emulator::nccl
