#pragma once
#include "emulator_support.h"

// The NCCL calls of the tests, through the loaded library.

namespace emulator::test {

#define NCCL_FUNCTION(name, parameters, arguments)                                             \
  inline ncclResult_t name parameters {                                                        \
    static const auto call =                                                                   \
        reinterpret_cast<ncclResult_t(*) parameters>(symbol_of(nccl_library(), "nccl" #name)); \
    return call arguments;                                                                     \
  }

NCCL_FUNCTION(GetVersion, (int* out), (out))
NCCL_FUNCTION(GetUniqueId, (ncclUniqueId * id), (id))
NCCL_FUNCTION(CommInitRank, (ncclComm_t * c, int n, ncclUniqueId id, int r), (c, n, id, r))
NCCL_FUNCTION(CommInitRankConfig, (ncclComm_t * c, int n, ncclUniqueId id, int r, ncclConfig_t* o),
              (c, n, id, r, o))
NCCL_FUNCTION(CommInitAll, (ncclComm_t * c, int n, const int* d), (c, n, d))
NCCL_FUNCTION(CommSplit, (ncclComm_t c, int color, int key, ncclComm_t* n, ncclConfig_t* o),
              (c, color, key, n, o))
NCCL_FUNCTION(CommFinalize, (ncclComm_t c), (c))
NCCL_FUNCTION(CommDestroy, (ncclComm_t c), (c))
NCCL_FUNCTION(CommAbort, (ncclComm_t c), (c))
NCCL_FUNCTION(CommGetAsyncError, (ncclComm_t c, ncclResult_t* out), (c, out))
NCCL_FUNCTION(CommCount, (ncclComm_t c, int* out), (c, out))
NCCL_FUNCTION(CommUserRank, (ncclComm_t c, int* out), (c, out))
NCCL_FUNCTION(CommCuDevice, (ncclComm_t c, int* out), (c, out))
NCCL_FUNCTION(GroupStart, (), ())
NCCL_FUNCTION(GroupEnd, (), ())
NCCL_FUNCTION(Broadcast, (const void* s, void* r, size_t n, int t, int root, ncclComm_t c, void* stream),
              (s, r, n, t, root, c, stream))
NCCL_FUNCTION(AllReduce, (const void* s, void* r, size_t n, int t, int op, ncclComm_t c, void* stream),
              (s, r, n, t, op, c, stream))
NCCL_FUNCTION(Reduce, (const void* s, void* r, size_t n, int t, int op, int root, ncclComm_t c, void* stream),
              (s, r, n, t, op, root, c, stream))
NCCL_FUNCTION(AllGather, (const void* s, void* r, size_t n, int t, ncclComm_t c, void* stream),
              (s, r, n, t, c, stream))
NCCL_FUNCTION(ReduceScatter, (const void* s, void* r, size_t n, int t, int op, ncclComm_t c, void* stream),
              (s, r, n, t, op, c, stream))
NCCL_FUNCTION(AlltoAll, (const void* s, void* r, size_t n, int t, ncclComm_t c, void* stream),
              (s, r, n, t, c, stream))
NCCL_FUNCTION(Gather, (const void* s, void* r, size_t n, int t, int root, ncclComm_t c, void* stream),
              (s, r, n, t, root, c, stream))
NCCL_FUNCTION(Scatter, (const void* s, void* r, size_t n, int t, int root, ncclComm_t c, void* stream),
              (s, r, n, t, root, c, stream))
NCCL_FUNCTION(Send, (const void* s, size_t n, int t, int p, ncclComm_t c, void* stream),
              (s, n, t, p, c, stream))
NCCL_FUNCTION(Recv, (void* r, size_t n, int t, int p, ncclComm_t c, void* stream), (r, n, t, p, c, stream))

inline std::string LastError() {
  return reinterpret_cast<const char* (*)(void*)>(symbol_of(nccl_library(), "ncclGetLastError"))(nullptr);
}

inline ncclUniqueId new_id() {
  ncclUniqueId id = {};
  CHECK_EQ(GetUniqueId(&id), 0);
  return id;
}

inline ncclComm_t joined(const Rank& me) {
  ncclComm_t comm = nullptr;
  CHECK_EQ(CommInitRank(&comm, me.ranks, me.id, me.rank), 0);
  return comm;
}

/** The 48-byte config that every version since 2.18 accepts. */
inline ncclConfig_t config(int blocking) {
  const int u = nccl::kUndefinedInt;
  return {sizeof(ncclConfig_t), nccl::kConfigMagic, 21800, blocking, u, u, u, nullptr, u};
}

inline ncclResult_t async_state(ncclComm_t comm) {
  ncclResult_t state = -1;
  CHECK_EQ(CommGetAsyncError(comm, &state), 0);
  return state;
}

}  // namespace emulator::test
