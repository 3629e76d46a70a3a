#pragma once
#include "nccl/abi.h"

namespace emulator::nccl {

/** Bytes of an element; 0 for a type that this version does not have. */
std::size_t element_bytes(ncclDataType_t type);

/** accumulator[i] = accumulator[i] op values[i]; kAvg adds (finish_average divides). */
void reduce(ncclDataType_t type, ncclRedOp_t op, std::byte* accumulator, const std::byte* values,
            std::size_t bytes);
void finish_average(ncclDataType_t type, std::byte* accumulator, std::size_t bytes, int ranks);

}  // namespace emulator::nccl
