#pragma once
#include <functional>
#include <memory>

#include "nccl/communicator.h"

namespace emulator::nccl {

/** The depth of the calling thread's group. Each call that works inside an implicit group opens and closes
 * one. */
void group_start();
ncclResult_t group_end();
/** The thread-local leak of section 2.4: the depth stays one too high. */
void leak_group_depth();

/** Starts an init now, or at the end of the thread's outermost group. `failed` runs when it did not succeed.
 */
ncclResult_t submit_init(std::shared_ptr<Communicator> communicator, std::function<void()> failed);
/** Launches now, or at the end of the outermost group. */
ncclResult_t submit_operation(std::shared_ptr<Communicator> communicator, Operation operation,
                              cudaStream_t stream);

}  // namespace emulator::nccl
