#include "cuda/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "common/faults.h"
#include "cuda/context.h"
#include "cuda/device.h"
#include "cuda/stream.h"

namespace emulator::cuda {
namespace {

using Allocations = std::map<std::byte*, Allocation>;

std::mutex& memory_mutex = *new std::mutex;  // guards everything below
std::map<Kind, Allocations>& allocations = *new std::map<Kind, Allocations>;
std::size_t device_bytes = 0;

constexpr std::size_t kHugePage = std::size_t{2} << 20;

/** The fault is about the device's memory alone. */
std::size_t limit_of(Kind kind) {
  const auto fault = faults().out_of_memory_bytes;
  return kind == Kind::device && fault != 0 ? std::min<std::size_t>(fault, machine_memory())
                                            : machine_memory();
}

bool exceeds_limit(Kind kind, std::size_t bytes) {
  const std::size_t limit = limit_of(kind);
  return bytes > limit || device_bytes > limit - bytes;
}

/** The allocation that holds all of [at, at + bytes), or nullptr. Under the mutex. */
Allocation* holder_of(Allocations& known, std::byte* at, std::size_t bytes) {
  const auto next = known.upper_bound(at);
  if (next == known.begin()) return nullptr;
  Allocation& candidate = std::prev(next)->second;
  const auto offset = static_cast<std::size_t>(at - candidate.base);
  return offset < candidate.bytes && bytes <= candidate.bytes - offset ? &candidate : nullptr;
}

}  // namespace

CUresult allocate(Kind kind, std::size_t bytes, CUdevice device, void** pointer) {
  if (pointer == nullptr || bytes == 0) return kInvalidValue;
  std::lock_guard lock(memory_mutex);
  if (exceeds_limit(kind, bytes)) return kOutOfMemory;
  void* memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return kOutOfMemory;
  if (bytes >= kHugePage) madvise(memory, bytes, MADV_HUGEPAGE);
  auto* base = static_cast<std::byte*>(memory);
  allocations[kind].emplace(base, Allocation{base, bytes, device});
  if (kind == Kind::device) device_bytes += bytes;
  *pointer = memory;
  return kSuccess;
}

CUresult release(Kind kind, void* pointer) {
  CUdevice device = -1;
  {
    std::lock_guard lock(memory_mutex);
    const auto found = allocations[kind].find(static_cast<std::byte*>(pointer));
    if (found == allocations[kind].end()) return kInvalidValue;
    device = found->second.device;
  }
  // The real cuMemFree waits for the device too: freeing under a stuck collective hangs.
  synchronize_device(device);
  Allocation gone;
  {
    std::lock_guard lock(memory_mutex);
    const auto found = allocations[kind].find(static_cast<std::byte*>(pointer));
    if (found == allocations[kind].end()) return kInvalidValue;
    gone = found->second;
    allocations[kind].erase(found);
    if (kind == Kind::device) device_bytes -= gone.bytes;
  }
  if (kind != Kind::registered) munmap(gone.base, gone.bytes);
  if (gone.file >= 0) close(gone.file);
  return kSuccess;
}

Allocation find_allocation(Kind kind, const void* pointer, std::size_t bytes) {
  auto* at = static_cast<std::byte*>(const_cast<void*>(pointer));
  std::lock_guard lock(memory_mutex);
  const Allocation* found = holder_of(allocations[kind], at, bytes);
  if (found == nullptr && kind == Kind::device) found = holder_of(allocations[Kind::imported], at, bytes);
  return found == nullptr ? Allocation{} : *found;
}

CUresult make_shareable(void* pointer, Allocation* shared) {
  std::lock_guard lock(memory_mutex);
  auto* found = holder_of(allocations[Kind::device], static_cast<std::byte*>(pointer), 1);
  if (found == nullptr) return kInvalidValue;
  if (found->file < 0) {
    const int file = memfd_create("weightcast-emulated-device", MFD_CLOEXEC);
    if (file < 0) return kOutOfMemory;
    const auto bytes = static_cast<off_t>(found->bytes);
    void* mapped = MAP_FAILED;
    if (ftruncate(file, bytes) == 0) {
      mapped = mmap(nullptr, found->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    if (mapped == MAP_FAILED) {
      close(file);
      return kOutOfMemory;
    }
    std::memcpy(mapped, found->base, found->bytes);
    munmap(mapped, found->bytes);
    mmap(found->base, found->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
    found->file = file;
  }
  *shared = *found;
  return kSuccess;
}

void add_imported(const Allocation& mapped) {
  std::lock_guard lock(memory_mutex);
  allocations[Kind::imported].emplace(mapped.base, mapped);
}

bool is_pinned(const void* pointer, std::size_t bytes) {
  return find_allocation(Kind::host, pointer, bytes).base != nullptr ||
         find_allocation(Kind::registered, pointer, bytes).base != nullptr;
}

CUresult register_host(void* pointer, std::size_t bytes, CUdevice device) {
  if (pointer == nullptr || bytes == 0) return kInvalidValue;
  auto* base = static_cast<std::byte*>(pointer);
  std::lock_guard lock(memory_mutex);
  const bool added = allocations[Kind::registered].emplace(base, Allocation{base, bytes, device}).second;
  return added ? kSuccess : kHostMemoryAlreadyRegistered;
}

std::size_t allocated_bytes() {
  std::lock_guard lock(memory_mutex);
  return device_bytes;
}

}  // namespace emulator::cuda

using namespace emulator::cuda;

EMULATED CUresult cuMemAlloc_v2(CUdeviceptr* address, std::size_t bytes) {
  emulator::hang_if_told("cuMemAlloc");
  if (const auto error = check_context()) return error;
  if (address == nullptr) return kInvalidValue;
  void* pointer = nullptr;
  const auto result = allocate(Kind::device, bytes, current_context()->device, &pointer);
  *address = reinterpret_cast<CUdeviceptr>(pointer);
  return result;
}

EMULATED CUresult cuMemFree_v2(CUdeviceptr address) {
  emulator::hang_if_told("cuMemFree");
  if (const auto error = check_context()) return error;
  return address == 0 ? kSuccess : release(Kind::device, to_pointer(address));
}

EMULATED CUresult cuMemAllocAsync(CUdeviceptr* address, std::size_t bytes, CUstream) {
  return cuMemAlloc_v2(address, bytes);
}

EMULATED CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
  if (const auto error = check_context()) return error;
  if (const auto error =
          emulator::is_default_stream(stream) || find_stream(stream) ? kSuccess : kInvalidHandle) {
    return error;
  }
  if (find_allocation(Kind::device, to_pointer(address), 1).base != to_pointer(address)) return kInvalidValue;
  // Waiting for the stream that would run the free can't work: the caller waits for that stream instead.
  if (!emulator::is_default_stream(stream)) find_stream(stream)->worker->synchronize();
  return release(Kind::device, to_pointer(address));
}

EMULATED CUresult cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  emulator::hang_if_told("cuMemGetInfo");
  if (const auto error = check_context()) return error;
  if (free == nullptr || total == nullptr) return kInvalidValue;
  *total = machine_memory();
  const auto limit = limit_of(Kind::device);
  *free = std::min(available_memory(), limit - std::min(limit, allocated_bytes()));
  return kSuccess;
}

EMULATED CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, std::size_t* bytes, CUdeviceptr address) {
  if (const auto error = check_context()) return error;
  const auto found = find_allocation(Kind::device, to_pointer(address), 1);
  if (found.base == nullptr) return kNotFound;
  if (base != nullptr) *base = reinterpret_cast<CUdeviceptr>(found.base);
  if (bytes != nullptr) *bytes = found.bytes;
  return kSuccess;
}

EMULATED CUresult cuMemHostAlloc(void** pointer, std::size_t bytes, unsigned flags) {
  emulator::hang_if_told("cuMemHostAlloc");
  if (const auto error = check_context()) return error;
  if ((flags & ~7u) != 0) return kInvalidValue;
  return allocate(Kind::host, bytes, current_context()->device, pointer);
}

EMULATED CUresult cuMemAllocHost_v2(void** pointer, std::size_t bytes) {
  return cuMemHostAlloc(pointer, bytes, 0);
}

EMULATED CUresult cuMemFreeHost(void* pointer) {
  emulator::hang_if_told("cuMemFreeHost");
  if (const auto error = check_context()) return error;
  return release(Kind::host, pointer);
}

EMULATED CUresult cuMemHostRegister_v2(void* pointer, std::size_t bytes, unsigned) {
  if (const auto error = check_context()) return error;
  return register_host(pointer, bytes, current_context()->device);
}

EMULATED CUresult cuMemHostUnregister(void* pointer) {
  if (const auto error = check_context()) return error;
  return release(Kind::registered, pointer) == kSuccess ? kSuccess : kHostMemoryNotRegistered;
}

EMULATED CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* address, void* pointer, unsigned) {
  if (const auto error = check_context()) return error;
  if (address == nullptr || !is_pinned(pointer, 1)) return kInvalidValue;
  *address = reinterpret_cast<CUdeviceptr>(pointer);
  return kSuccess;
}
