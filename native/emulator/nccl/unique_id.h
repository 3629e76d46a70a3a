#pragma once
#include <optional>
#include <string>

#include "nccl/abi.h"

namespace emulator::nccl {

/**
 * The 128 bytes look like the real ones: u64 random magic | an address | zeros. The address names an abstract
 * Unix socket (family AF_UNIX, 16 random bytes), so nothing is left on disk whatever happens to the process.
 */
ncclUniqueId random_unique_id();

/** Name of the abstract socket without its leading zero byte; nothing for an id that this library did not
 * make. */
std::optional<std::string> socket_name(const ncclUniqueId& id);

}  // namespace emulator::nccl
