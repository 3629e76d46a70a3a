#include "common/faults.h"
#include "nccl/data_type.h"
#include "nccl/group.h"
#include "nccl/log.h"
#include "nccl/registry.h"

namespace emulator::nccl {
namespace {

struct Call {
  const char* name;
  Kind kind;
  const void* source;
  void* target;
  std::size_t count;
  ncclDataType_t type;
  ncclRedOp_t op;
  /** The root, or the peer of a message. */
  int root;
  bool sends;
};

ncclResult_t check_buffers(const Call& call, bool is_root) {
  const bool reads = call.kind == Kind::broadcast || call.kind == Kind::scatter ? is_root
                     : call.kind == Kind::messages                              ? call.sends
                                                                                : true;
  const bool writes = call.kind == Kind::reduce || call.kind == Kind::gather ? is_root
                      : call.kind == Kind::messages                          ? !call.sends
                                                                             : true;
  if (reads && call.source == nullptr)
    return fail(kInvalidArgument, "%s : sendbuff argument is NULL", call.name);
  if (writes && call.target == nullptr)
    return fail(kInvalidArgument, "%s : recvbuff argument is NULL", call.name);
  return kSuccess;
}

ncclResult_t enqueue(const Call& call, ncclComm_t comm, cudaStream_t stream) {
  std::shared_ptr<Communicator> communicator;
  if (const auto error = need_communicator(call.name, comm, communicator)) return error;
  if (const auto error = communicator->ready(call.name)) return error;
  if (call.root < 0 || call.root >= communicator->ranks()) {
    return fail(kInvalidArgument, "%s : invalid root %d (root should be in the 0..%d range)", call.name,
                call.root, communicator->ranks());
  }
  const auto element = element_bytes(call.type);
  if (element == 0) return fail(kInvalidArgument, "%s : invalid type %d", call.name, call.type);
  if (call.op < 0 || call.op >= kRedOps)
    return fail(kInvalidArgument, "%s : invalid reduction operation %d", call.name, call.op);
  if (call.count == 0) return kSuccess;
  if (call.count > SIZE_MAX / element / kMaxRanks)
    return fail(kInvalidArgument, "%s : count is too large", call.name);
  const bool is_root = communicator->rank() == call.root;
  if (const auto error = check_buffers(call, is_root)) return error;

  Operation operation;
  operation.kind = call.kind;
  operation.source = static_cast<const std::byte*>(call.source);
  operation.target = static_cast<std::byte*>(call.target);
  operation.bytes = call.count * element;
  operation.type = call.type;
  operation.op = call.op;
  operation.root = call.root;
  if (call.kind == Kind::messages) {
    auto* buffer = static_cast<std::byte*>(call.sends ? const_cast<void*>(call.source) : call.target);
    const Tag tag{0, static_cast<std::uint64_t>(Kind::messages), operation.bytes};
    operation.messages.push_back({call.sends, call.root, buffer, operation.bytes, tag});
  }
  return submit_operation(communicator, std::move(operation), stream);
}

}  // namespace
}  // namespace emulator::nccl

using namespace emulator::nccl;

// The ...Config forms of 2.31 take the plain arguments and a config that only tunes, which is ignored here.

EMULATED ncclResult_t ncclBroadcast(const void* send, void* receive, std::size_t count, ncclDataType_t type,
                                    int root, ncclComm_t comm, cudaStream_t stream) {
  emulator::hang_if_told("ncclBroadcast");
  return enqueue({"Broadcast", Kind::broadcast, send, receive, count, type, kSum, root, false}, comm, stream);
}
EMULATED ncclResult_t ncclBroadcastConfig(const void* send, void* receive, std::size_t count,
                                          ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream,
                                          const void*) {
  return ncclBroadcast(send, receive, count, type, root, comm, stream);
}
EMULATED ncclResult_t ncclBcast(void* buffer, std::size_t count, ncclDataType_t type, int root,
                                ncclComm_t comm, cudaStream_t stream) {
  return ncclBroadcast(buffer, buffer, count, type, root, comm, stream);
}

EMULATED ncclResult_t ncclAllReduce(const void* send, void* receive, std::size_t count, ncclDataType_t type,
                                    ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return enqueue({"AllReduce", Kind::all_reduce, send, receive, count, type, op, 0, false}, comm, stream);
}
EMULATED ncclResult_t ncclAllReduceConfig(const void* send, void* receive, std::size_t count,
                                          ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                                          cudaStream_t stream, const void*) {
  return ncclAllReduce(send, receive, count, type, op, comm, stream);
}

EMULATED ncclResult_t ncclReduce(const void* send, void* receive, std::size_t count, ncclDataType_t type,
                                 ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream) {
  return enqueue({"Reduce", Kind::reduce, send, receive, count, type, op, root, false}, comm, stream);
}
EMULATED ncclResult_t ncclReduceConfig(const void* send, void* receive, std::size_t count,
                                       ncclDataType_t type, ncclRedOp_t op, int root, ncclComm_t comm,
                                       cudaStream_t stream, const void*) {
  return ncclReduce(send, receive, count, type, op, root, comm, stream);
}

EMULATED ncclResult_t ncclAllGather(const void* send, void* receive, std::size_t count, ncclDataType_t type,
                                    ncclComm_t comm, cudaStream_t stream) {
  return enqueue({"AllGather", Kind::all_gather, send, receive, count, type, kSum, 0, false}, comm, stream);
}
EMULATED ncclResult_t ncclAllGatherConfig(const void* send, void* receive, std::size_t count,
                                          ncclDataType_t type, ncclComm_t comm, cudaStream_t stream,
                                          const void*) {
  return ncclAllGather(send, receive, count, type, comm, stream);
}

EMULATED ncclResult_t ncclReduceScatter(const void* send, void* receive, std::size_t count,
                                        ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                                        cudaStream_t stream) {
  return enqueue({"ReduceScatter", Kind::reduce_scatter, send, receive, count, type, op, 0, false}, comm,
                 stream);
}
EMULATED ncclResult_t ncclReduceScatterConfig(const void* send, void* receive, std::size_t count,
                                              ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                                              cudaStream_t stream, const void*) {
  return ncclReduceScatter(send, receive, count, type, op, comm, stream);
}

EMULATED ncclResult_t ncclAlltoAll(const void* send, void* receive, std::size_t count, ncclDataType_t type,
                                   ncclComm_t comm, cudaStream_t stream) {
  return enqueue({"AlltoAll", Kind::all_to_all, send, receive, count, type, kSum, 0, false}, comm, stream);
}
EMULATED ncclResult_t ncclAlltoAllConfig(const void* send, void* receive, std::size_t count,
                                         ncclDataType_t type, ncclComm_t comm, cudaStream_t stream,
                                         const void*) {
  return ncclAlltoAll(send, receive, count, type, comm, stream);
}

EMULATED ncclResult_t ncclGather(const void* send, void* receive, std::size_t count, ncclDataType_t type,
                                 int root, ncclComm_t comm, cudaStream_t stream) {
  return enqueue({"Gather", Kind::gather, send, receive, count, type, kSum, root, false}, comm, stream);
}
EMULATED ncclResult_t ncclGatherConfig(const void* send, void* receive, std::size_t count,
                                       ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream,
                                       const void*) {
  return ncclGather(send, receive, count, type, root, comm, stream);
}

EMULATED ncclResult_t ncclScatter(const void* send, void* receive, std::size_t count, ncclDataType_t type,
                                  int root, ncclComm_t comm, cudaStream_t stream) {
  return enqueue({"Scatter", Kind::scatter, send, receive, count, type, kSum, root, false}, comm, stream);
}
EMULATED ncclResult_t ncclScatterConfig(const void* send, void* receive, std::size_t count,
                                        ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream,
                                        const void*) {
  return ncclScatter(send, receive, count, type, root, comm, stream);
}

EMULATED ncclResult_t ncclSend(const void* send, std::size_t count, ncclDataType_t type, int peer,
                               ncclComm_t comm, cudaStream_t stream) {
  return enqueue({"Send", Kind::messages, send, nullptr, count, type, kSum, peer, true}, comm, stream);
}
EMULATED ncclResult_t ncclRecv(void* receive, std::size_t count, ncclDataType_t type, int peer,
                               ncclComm_t comm, cudaStream_t stream) {
  return enqueue({"Recv", Kind::messages, nullptr, receive, count, type, kSum, peer, false}, comm, stream);
}
