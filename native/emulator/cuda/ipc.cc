// Device memory of one process in another. A handle names the process that exported and the memfd that stands
// behind the allocation; the other side maps that file. As with the real driver the handle names the whole
// allocation, can't be opened where it was made, and is worth nothing when its process is gone.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "cuda/context.h"
#include "cuda/memory.h"
#include "cuda/stream.h"

namespace emulator::cuda {
namespace {

constexpr std::uint64_t kMark = 0x3163706974736163;  // "castipc1"

struct Name {
  std::uint64_t mark;
  std::int32_t process;
  std::int32_t file;
  std::uint64_t inode;
  std::uint64_t bytes;
};
static_assert(sizeof(Name) <= sizeof(CUipcMemHandle));

}  // namespace
}  // namespace emulator::cuda

using namespace emulator::cuda;

EMULATED CUresult cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr address) {
  if (const auto error = check_context()) return error;
  if (handle == nullptr) return kInvalidValue;
  synchronize_device(current_context()->device);  // nothing writes while the bytes move behind the address
  Allocation shared;
  if (const auto error = make_shareable(to_pointer(address), &shared)) return error;
  struct stat status{};
  if (fstat(shared.file, &status) != 0) return kInvalidValue;
  const Name name{kMark, getpid(), shared.file, status.st_ino, shared.bytes};
  *handle = {};
  std::memcpy(handle->reserved, &name, sizeof name);
  return kSuccess;
}

EMULATED CUresult cuIpcOpenMemHandle_v2(CUdeviceptr* address, CUipcMemHandle handle, unsigned flags) {
  if (const auto error = check_context()) return error;
  Name name;
  std::memcpy(&name, handle.reserved, sizeof name);
  if (address == nullptr || flags != 1 || name.mark != kMark) return kInvalidValue;
  if (name.process == getpid()) return kInvalidContext;
  const auto path = "/proc/" + std::to_string(name.process) + "/fd/" + std::to_string(name.file);
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return kInvalidHandle;
  struct stat status{};
  const bool same = fstat(file, &status) == 0 && status.st_ino == name.inode &&
                    static_cast<std::uint64_t>(status.st_size) == name.bytes;
  void* mapped = same ? mmap(nullptr, name.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
  close(file);
  if (mapped == MAP_FAILED) return kInvalidHandle;
  add_imported({static_cast<std::byte*>(mapped), name.bytes, current_context()->device});
  *address = reinterpret_cast<CUdeviceptr>(mapped);
  return kSuccess;
}

EMULATED CUresult cuIpcCloseMemHandle(CUdeviceptr address) {
  if (const auto error = check_context()) return error;
  return release(Kind::imported, to_pointer(address));
}
