#include <algorithm>
#include <cstring>
#include <vector>

#include "common/environment.h"
#include "common/faults.h"
#include "nccl/group.h"
#include "nccl/log.h"
#include "nccl/registry.h"
#include "nccl/root.h"
#include "nccl/unique_id.h"

namespace emulator::nccl {
namespace {

ncclResult_t check_shape(const char* caller, const void* comm, int ranks, int rank) {
  if (comm == nullptr) return fail(kInvalidArgument, "%s : comm argument is NULL", caller);
  if (ranks < 1) return fail(kInvalidArgument, "improper usage of %s: nId = 1, nranks=%d", caller, ranks);
  if (ranks > kMaxRanks)
    return fail(kInvalidArgument, "the emulator joins at most %d ranks, not %d", kMaxRanks, ranks);
  if (rank < 0 || rank >= ranks) return fail(kInvalidArgument, "Invalid rank requested : %d/%d", rank, ranks);
  return kSuccess;
}

/** Reads `blocking` from a config of any version's size; the env variable wins. */
ncclResult_t read_config(const ncclConfig_t* given, bool& blocking) {
  blocking = true;
  if (given != nullptr) {
    constexpr std::size_t kShortest = 24;  // 2.14
    constexpr std::size_t kLongest = 4096;
    if (given->size < kShortest || given->size > kLongest)
      return fail(kInvalidArgument, "ncclConfig_t of a wrong size");
    ncclConfig_t config = {};
    std::memcpy(&config, given, std::min(given->size, sizeof config));
    if (config.magic != kConfigMagic) {
      return fail(kInvalidArgument, "ncclConfig_t argument not initialized via NCCL_CONFIG_INITIALIZER");
    }
    if (config.blocking != kUndefinedInt && config.blocking != 0 && config.blocking != 1) {
      return fail(kInvalidArgument, "Invalid config blocking attribute value %d", config.blocking);
    }
    const bool has_ctas = config.version >= 21700 && given->size >= 40;
    if (has_ctas && (config.min_ctas == 0 || config.max_ctas == 0)) {
      return fail(kInvalidArgument, "Invalid config min/max channels attribute value %d/%d", config.min_ctas,
                  config.max_ctas);
    }
    // A config of a version newer than this one that left the fields between at 0 is refused by the real
    // library.
    if (given->size >= 72 && config.version >= 22700) {
      int nvls_ctas = 0;
      std::memcpy(&nvls_ctas, reinterpret_cast<const char*>(given) + 68, sizeof nvls_ctas);
      if (nvls_ctas == 0) return fail(kInvalidArgument, "Invalid config nvlsCTAs attribute value 0");
    }
    blocking = config.blocking != 0;
  }
  const auto override = environment("NCCL_COMM_BLOCKING");
  if (override == "0" || override == "1") blocking = override == "1";
  return kSuccess;
}

/** Atomically: another thread may watch the variable for a handle that it can abort. */
void publish(ncclComm_t* comm, ncclComm_t handle) {
  if (comm != nullptr) __atomic_store_n(comm, handle, __ATOMIC_RELEASE);
}

ncclResult_t init_rank(ncclComm_t* comm, int ranks, const ncclUniqueId& id, int rank, bool blocking) {
  auto communicator = std::make_shared<Communicator>(Invitation{id, rank, ranks, current_device()}, blocking);
  // Written before the call blocks, so that another thread can abort it.
  const auto handle = add_communicator(communicator);
  publish(comm, handle);
  return submit_init(communicator, [communicator, comm, handle] {
    // An aborted init leaves the pointer as it is, like the real library.
    if (find_communicator(handle) == nullptr) return;
    communicator->abort();
    remove_communicator(handle);
    publish(comm, nullptr);
  });
}

}  // namespace
}  // namespace emulator::nccl

using namespace emulator::nccl;

EMULATED const char* weightcast_emulation() { return EMULATION_SENTENCE; }

EMULATED ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  emulator::hang_if_told("ncclGetUniqueId");
  if (id == nullptr) return fail(kInvalidArgument, "GetUniqueId : out argument is NULL");
  *id = random_unique_id();
  return start_root(*id);
}

EMULATED ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
  publish(comm, nullptr);
  if (const auto error = check_cuda()) return error;
  if (const auto error = check_shape("ncclCommInitRank", comm, ranks, rank)) return error;
  bool blocking = true;
  read_config(nullptr, blocking);
  return init_rank(comm, ranks, id, rank, blocking);
}

EMULATED ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                             ncclConfig_t* config) {
  emulator::hang_if_told("ncclCommInitRankConfig");
  publish(comm, nullptr);
  if (const auto error = check_cuda()) {
    if (emulator::faults().group_depth_leak) leak_group_depth();
    return error;
  }
  if (const auto error = check_shape("ncclCommInitRank", comm, ranks, rank)) return error;
  bool blocking = true;
  if (const auto error = read_config(config, blocking)) return error;
  return init_rank(comm, ranks, id, rank, blocking);
}

EMULATED ncclResult_t ncclCommInitRankScalable(ncclComm_t* comm, int ranks, int rank, int ids,
                                               ncclUniqueId* id, ncclConfig_t* config) {
  if (ids < 1 || id == nullptr) {
    return fail(kInvalidArgument, "improper usage of ncclCommInitRankScalable: nId = %d, nranks=%d", ids,
                ranks);
  }
  if (ids != 1) return fail(kInvalidUsage, "more than one unique id is not emulated");
  return ncclCommInitRankConfig(comm, ranks, *id, rank, config);
}

/** Devices are not told apart here: every rank works on the caller's. */
EMULATED ncclResult_t ncclCommInitAll(ncclComm_t* comms, int count, const int* /*devices*/) {
  if (const auto error = check_cuda()) return error;
  if (const auto error = check_shape("ncclCommInitAll", comms, count, 0)) return error;
  ncclUniqueId id = {};
  if (const auto error = ncclGetUniqueId(&id)) return error;
  group_start();
  for (int rank = 0; rank < count; ++rank) init_rank(&comms[rank], count, id, rank, true);
  return group_end();
}

namespace emulator::nccl {
namespace {

struct Member {
  int color;
  int key;
  int rank;
};

ncclResult_t gather_from_all(Communicator& parent, const void* mine, void* all, std::size_t bytes) {
  Operation operation;
  operation.kind = Kind::all_gather;
  operation.source = static_cast<const std::byte*>(mine);
  operation.target = static_cast<std::byte*>(all);
  operation.bytes = bytes;
  return parent.run_inline(std::move(operation));
}

}  // namespace
}  // namespace emulator::nccl

/** The members of a color meet at an id that the first of them makes. */
EMULATED ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* split,
                                    ncclConfig_t* config) {
  constexpr int kNoColor = -1;
  std::shared_ptr<Communicator> parent;
  if (const auto error = need_communicator("CommSplit", comm, parent)) return error;
  if (split == nullptr) return fail(kInvalidArgument, "CommSplit : newcomm argument is NULL");
  *split = nullptr;
  if (color < kNoColor) return fail(kInvalidArgument, "CommSplit : color %d is negative", color);
  bool blocking = true;
  if (const auto error = read_config(config, blocking)) return error;
  if (const auto error = parent->ready("CommSplit")) return error;

  const auto ranks = static_cast<std::size_t>(parent->ranks());
  const Member mine{color, key, parent->rank()};
  std::vector<Member> members(ranks);
  if (const auto error = gather_from_all(*parent, &mine, members.data(), sizeof mine)) return error;
  std::erase_if(members, [&](const Member& member) { return member.color != color; });
  std::stable_sort(members.begin(), members.end(),
                   [](const Member& a, const Member& b) { return a.key < b.key; });

  ncclUniqueId id = {};
  const bool leads = color != kNoColor && members.front().rank == mine.rank;
  if (leads) {
    if (const auto error = ncclGetUniqueId(&id)) return error;
  }
  std::vector<ncclUniqueId> ids(ranks);
  if (const auto error = gather_from_all(*parent, &id, ids.data(), sizeof id)) return error;
  if (color == kNoColor) return kSuccess;
  const auto me =
      std::find_if(members.begin(), members.end(), [&](const Member& m) { return m.rank == mine.rank; });
  return init_rank(split, static_cast<int>(members.size()),
                   ids[static_cast<std::size_t>(members.front().rank)],
                   static_cast<int>(me - members.begin()), blocking);
}
