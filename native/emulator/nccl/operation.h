#pragma once
#include <vector>

#include "nccl/transport.h"

namespace emulator::nccl {

enum class Kind : std::uint64_t {
  broadcast = 1,
  all_reduce,
  all_gather,
  reduce_scatter,
  reduce,
  all_to_all,
  gather,
  scatter,
  messages,
};

/** One collective, or all sends and receives of one group. */
struct Operation {
  Kind kind = Kind::broadcast;
  const std::byte* source = nullptr;
  std::byte* target = nullptr;
  /** Bytes of one rank's share. */
  std::size_t bytes = 0;
  ncclDataType_t type = kUint8;
  ncclRedOp_t op = kSum;
  int root = 0;
  std::vector<Message> messages;
  /** The communicator's count of operations, equal on all ranks. Messages don't count: not every rank takes
   * part. */
  std::uint64_t number = 0;
};

/** Moves the operation's data; returns when this rank has done its part. */
Outcome execute(Operation& operation, Transport& transport);

}  // namespace emulator::nccl
