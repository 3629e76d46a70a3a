#pragma once
#include <memory>

#include "nccl/abi.h"
#include "nccl/transport.h"

namespace emulator::nccl {

/** The device on which a rank was created. */
struct DeviceIdentity {
  int ordinal = 0;
  bool known = false;
  unsigned char uuid[16] = {};
};

struct Invitation {
  ncclUniqueId id;
  int rank;
  int ranks;
  DeviceIdentity device;
};

/**
 * Meets the other ranks at the id's root. Waits for missing ranks for ever, until `stop` is set (then
 * kInternalError, as the real library answers a blocked init that was aborted). kRemoteError when no root
 * answers.
 */
ncclResult_t join(const Invitation& invitation, StopFlag& stop, std::unique_ptr<Transport>& transport);

/** The calling thread's device of the emulated libcuda; unknown in a process that did not load it. */
DeviceIdentity current_device();
/** What the real library's first CUDA call would say (section 4 of the sheet). */
ncclResult_t check_cuda();

}  // namespace emulator::nccl
