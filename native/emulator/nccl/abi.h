#pragma once
#include <climits>
#include <cstddef>
#include <cstdint>

#include "common/export.h"

// The host ABI of NCCL (contracts/nccl.md, sections 1.2 to 1.4). Streams and communicators are opaque here.

using ncclResult_t = int;
using ncclDataType_t = int;
using ncclRedOp_t = int;
using ncclComm_t = struct OpaqueCommunicator*;
using ncclWindow_t = void*;
using cudaStream_t = void*;

/** Passed by value. */
struct ncclUniqueId {
  unsigned char internal[128];
};

/** The fields that every version since 2.18 has; a caller's may be shorter or longer, by `size`. */
struct ncclConfig_t {
  std::size_t size;
  unsigned magic;
  unsigned version;
  int blocking;
  int cga_cluster_size;
  int min_ctas;
  int max_ctas;
  const char* net_name;
  int split_share;
};

namespace emulator::nccl {

enum Result : ncclResult_t {
  kSuccess = 0,
  kUnhandledCudaError = 1,
  kSystemError = 2,
  kInternalError = 3,
  kInvalidArgument = 4,
  kInvalidUsage = 5,
  kRemoteError = 6,
  kInProgress = 7,
};

enum DataType : ncclDataType_t {
  kInt8,
  kUint8,
  kInt32,
  kUint32,
  kInt64,
  kUint64,
  kFloat16,
  kFloat32,
  kFloat64,
  kBfloat16,
  kFloat8e4m3,
  kFloat8e5m2,
  kDataTypes,
};

enum RedOp : ncclRedOp_t { kSum, kProd, kMax, kMin, kAvg, kRedOps };

inline constexpr unsigned kConfigMagic = 0xcafebeef;
inline constexpr int kUndefinedInt = INT_MIN;
/** File descriptors travel with the verdict, and one message carries at most 253. */
inline constexpr int kMaxRanks = 250;

/** The version that this process claims: WEIGHTCAST_EMULATOR_NCCL_VERSION, 23007 unless it is set. */
int version();

}  // namespace emulator::nccl
