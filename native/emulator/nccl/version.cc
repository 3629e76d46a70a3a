#include "common/environment.h"
#include "nccl/abi.h"

namespace emulator::nccl {

int version() {
  static const int claimed = static_cast<int>(environment_number("WEIGHTCAST_EMULATOR_NCCL_VERSION", 23007));
  return claimed;
}

}  // namespace emulator::nccl
