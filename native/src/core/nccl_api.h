// The part of NCCL's C API that we use, 2.18 and later.
#pragma once

#include <climits>
#include <cstddef>
#include <string_view>

#include "core/cuda_api.h"
#include "core/library.h"

namespace weightcast {

struct NcclCommTag;
using NcclComm = NcclCommTag*;
/// Passed by value.
struct NcclUniqueId {
  char bytes[128];
};
static_assert(sizeof(NcclUniqueId) == 128);

/// The 48-byte layout of 2.18; newer libraries take it as it is and default the rest. INT_MIN means
/// undefined.
struct NcclConfig {
  std::size_t size = 48;
  unsigned magic = 0xcafebeef;
  unsigned version = 21800;
  int blocking = 0;
  int cga_cluster_size = INT_MIN;
  int min_ctas = INT_MIN;
  int max_ctas = INT_MIN;
  const char* net_name = nullptr;
  int split_share = INT_MIN;
  int padding = INT_MIN;  // trafficClass from 2.26 on
};
static_assert(sizeof(NcclConfig) == 48);
static_assert(offsetof(NcclConfig, net_name) == 32);

namespace nccl {
inline constexpr int kSuccess = 0;
inline constexpr int kInvalidUsage = 5;
inline constexpr int kInProgress = 7;
inline constexpr int kUint8 = 1;
inline constexpr int kFloat32 = 7;
inline constexpr int kSum = 0;
inline constexpr int kOldestVersion = 21800;
}  // namespace nccl

#define WEIGHTCAST_NCCL_FUNCTIONS(F)                                                        \
  F(get_unique_id, "ncclGetUniqueId", (NcclUniqueId * id))                                  \
  F(init_rank, "ncclCommInitRankConfig",                                                    \
    (NcclComm * comm, int world_size, NcclUniqueId id, int rank, NcclConfig* config))       \
  F(broadcast, "ncclBroadcast",                                                             \
    (const void* send, void* receive, std::size_t count, int type, int root, NcclComm comm, \
     CudaStream stream))                                                                    \
  F(all_reduce, "ncclAllReduce",                                                            \
    (const void* send, void* receive, std::size_t count, int type, int op, NcclComm comm,   \
     CudaStream stream))                                                                    \
  F(async_error, "ncclCommGetAsyncError", (NcclComm comm, int* result))                     \
  F(finalize, "ncclCommFinalize", (NcclComm comm))                                          \
  F(destroy, "ncclCommDestroy", (NcclComm comm))                                            \
  F(abort, "ncclCommAbort", (NcclComm comm))                                                \
  F(group_end, "ncclGroupEnd", ())

struct NcclApi {
  /// @throws Error(WC_NCCL_NOT_FOUND, WC_NCCL_TOO_OLD)
  explicit NcclApi(const Library& library);

  int version = 0;
#define WEIGHTCAST_MEMBER(name, symbol, arguments) LibraryCall<int arguments> name{symbol};
  WEIGHTCAST_NCCL_FUNCTIONS(WEIGHTCAST_MEMBER)
#undef WEIGHTCAST_MEMBER
  const char* (*error_string)(int result) = nullptr;
  const char* (*last_error)(NcclComm comm) = nullptr;

  /// "remote process exited or there was a network error (6): <NCCL's last error>". Copies NCCL's one global
  /// buffer.
  std::string describe(int result) const;
};

/// What to do about a failed call; empty when the code's remedy is all that is known.
std::string nccl_remedy(int result, std::string_view text);

/// "2.30.7"
std::string format_nccl_version(int version);

}  // namespace weightcast
