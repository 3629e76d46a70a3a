#include "nccl/log.h"

// Every other public name up to 2.32, so that programs which bind all of them at load start. A C function may be called
// with more arguments than it declares.
#define NOT_EMULATED(name)        \
  EMULATED ncclResult_t name() {  \
    return emulator::nccl::fail(emulator::nccl::kInvalidUsage, "%s is not emulated", #name); \
  }

NOT_EMULATED(ncclCommGetUniqueId)
NOT_EMULATED(ncclCommGrow)
NOT_EMULATED(ncclCommMemStats)
NOT_EMULATED(ncclCommQueryProperties)
NOT_EMULATED(ncclCommResume)
NOT_EMULATED(ncclCommRevoke)
NOT_EMULATED(ncclCommShrink)
NOT_EMULATED(ncclCommSuspend)
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
