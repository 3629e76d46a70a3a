#pragma once
#include "nccl/abi.h"

namespace emulator::nccl {

/**
 * Starts the rendezvous thread of a fresh id in this process, as ncclGetUniqueId does. It gathers the ranks'
 * hellos, judges them together, hands every rank the group's shared memory and a lifeline to every other
 * rank, and ends. Without a full house it waits for ever, or until everybody who came has left.
 */
ncclResult_t start_root(const ncclUniqueId& id);

}  // namespace emulator::nccl
