#include "nccl/registry.h"

#include <csignal>
#include <map>
#include <mutex>

#include "common/faults.h"
#include "nccl/log.h"

namespace emulator::nccl {
namespace {

using Table = std::map<ncclComm_t, std::shared_ptr<Communicator>>;

std::mutex& registry_mutex = *new std::mutex;  // guards everything below
Table& table = *new Table;
std::uintptr_t next_name = 0x57c0'0000'0010;

}  // namespace

ncclComm_t add_communicator(std::shared_ptr<Communicator> communicator) {
  std::lock_guard lock(registry_mutex);
  const auto handle = reinterpret_cast<ncclComm_t>(next_name);
  next_name += 16;
  table.emplace(handle, std::move(communicator));
  return handle;
}

std::shared_ptr<Communicator> find_communicator(ncclComm_t handle) {
  std::lock_guard lock(registry_mutex);
  const auto found = table.find(handle);
  return found == table.end() ? nullptr : found->second;
}

void remove_communicator(ncclComm_t handle) {
  std::lock_guard lock(registry_mutex);
  table.erase(handle);
}

ncclResult_t need_communicator(const char* caller, ncclComm_t handle,
                               std::shared_ptr<Communicator>& communicator) {
  if (handle == nullptr) return fail(kInvalidArgument, "%s : comm argument is NULL", caller);
  communicator = find_communicator(handle);
  if (communicator == nullptr && faults().crash_on_reuse) std::raise(SIGSEGV);
  return communicator != nullptr ? kSuccess
                                 : fail(kInvalidArgument, "%s : comm argument is corrupted or freed", caller);
}

}  // namespace emulator::nccl
