#include "nccl/log.h"

// Every other public name up to 2.32, so that programs which bind all of them at load start. A C function may
// be called with more arguments than it declares.
#define NOT_EMULATED(name)                                                                   \
  EMULATED ncclResult_t name() {                                                             \
    return emulator::nccl::fail(emulator::nccl::kInvalidUsage, "%s is not emulated", #name); \
  }

// Measured with a NULL communicator: Revoke answers 0, the others 4.
#define NOT_EMULATED_ON_COMMUNICATOR(name, without)                                          \
  EMULATED ncclResult_t name(ncclComm_t comm) {                                              \
    if (comm == nullptr) return emulator::nccl::without;                                     \
    return emulator::nccl::fail(emulator::nccl::kInvalidUsage, "%s is not emulated", #name); \
  }

NOT_EMULATED_ON_COMMUNICATOR(ncclCommGetUniqueId, kInvalidArgument)
NOT_EMULATED_ON_COMMUNICATOR(ncclCommGrow, kInvalidArgument)
NOT_EMULATED_ON_COMMUNICATOR(ncclCommMemStats, kInvalidArgument)
NOT_EMULATED_ON_COMMUNICATOR(ncclCommQueryProperties, kInvalidArgument)
NOT_EMULATED_ON_COMMUNICATOR(ncclCommResume, kInvalidArgument)
NOT_EMULATED_ON_COMMUNICATOR(ncclCommRevoke, kSuccess)
NOT_EMULATED_ON_COMMUNICATOR(ncclCommShrink, kInvalidArgument)
NOT_EMULATED_ON_COMMUNICATOR(ncclCommSuspend, kInvalidArgument)

NOT_EMULATED(ncclGroupSimulateEnd)
NOT_EMULATED(ncclPutSignal)
NOT_EMULATED(ncclRedOpCreatePreMulSum)
NOT_EMULATED(ncclRedOpDestroy)
NOT_EMULATED(ncclSetEncryption)
NOT_EMULATED(ncclSignal)
NOT_EMULATED(ncclWaitSignal)

NOT_EMULATED(ncclParamBind)
NOT_EMULATED(ncclParamGet)
NOT_EMULATED(ncclParamGetAllParameterKeys)
NOT_EMULATED(ncclParamGetI16)
NOT_EMULATED(ncclParamGetI32)
NOT_EMULATED(ncclParamGetI64)
NOT_EMULATED(ncclParamGetI8)
NOT_EMULATED(ncclParamGetParameter)
NOT_EMULATED(ncclParamGetStr)
NOT_EMULATED(ncclParamGetU16)
NOT_EMULATED(ncclParamGetU32)
NOT_EMULATED(ncclParamGetU64)
NOT_EMULATED(ncclParamGetU8)
NOT_EMULATED(ncclParamDumpAll)

NOT_EMULATED(ncclDevCommCreate)
NOT_EMULATED(ncclDevCommDestroy)
NOT_EMULATED(ncclGetCftDeviceLeInfo)
NOT_EMULATED(ncclGetLsaDevicePointer)
NOT_EMULATED(ncclGetLsaMultimemDevicePointer)
NOT_EMULATED(ncclGetMultimemDeviceLeInfo)
NOT_EMULATED(ncclGetMultimemDevicePointer)
NOT_EMULATED(ncclGetPeerDeviceLeInfo)
NOT_EMULATED(ncclGetPeerDevicePointer)
NOT_EMULATED(ncclGinBarrierCreateRequirement)
NOT_EMULATED(ncclGinInboxA2ACreateRequirement)
NOT_EMULATED(ncclGinOutboxCreateRequirement)
NOT_EMULATED(ncclLLA2ACalcSlots)
NOT_EMULATED(ncclLLA2ACreateRequirement)
NOT_EMULATED(ncclLsaBarrierCreateRequirement)
NOT_EMULATED(ncclTeamRankToLsa)
NOT_EMULATED(ncclTeamRankToWorld)

/** Three ints by value; an empty team. */
struct ncclTeam_t {
  int ranks, rank, stride;
};
#define EMPTY_TEAM(name) \
  EMULATED ncclTeam_t name() { return {}; }

EMPTY_TEAM(ncclTeamCft)
EMPTY_TEAM(ncclTeamCftMultimem)
EMPTY_TEAM(ncclTeamLsa)
EMPTY_TEAM(ncclTeamRail)
EMPTY_TEAM(ncclTeamWorld)
