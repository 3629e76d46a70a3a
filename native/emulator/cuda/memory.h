#pragma once
#include <cstddef>

#include "cuda/abi.h"

namespace emulator::cuda {

/** A piece of memory that this library gave out or was told of. */
struct Allocation {
  std::byte* base = nullptr;
  std::size_t bytes = 0;
  CUdevice device = -1;
  int file = -1;  ///< the memfd behind memory that was exported
};

/** imported: another process's device memory, mapped here. */
enum class Kind { device, host, registered, imported };

/** Maps zeroed, lazily committed memory; kOutOfMemory beyond the machine's memory or the out-of-memory fault.
 */
CUresult allocate(Kind kind, std::size_t bytes, CUdevice device, void** pointer);
/** kInvalidValue when `pointer` is not the start of an allocation of that kind. Waits for the device's
 * streams first. */
CUresult release(Kind kind, void* pointer);
/** The allocation of that kind which holds all of [pointer, pointer + bytes); base is nullptr when there is
 * none. Imported memory is device memory too. */
Allocation find_allocation(Kind kind, const void* pointer, std::size_t bytes);
/** Host memory to which the copies are asynchronous: allocated or registered here. */
bool is_pinned(const void* pointer, std::size_t bytes);
CUresult register_host(void* pointer, std::size_t bytes, CUdevice device);
/** Puts a memfd behind the device allocation that holds `pointer`, at the same address and with the same bytes; once.
 */
CUresult make_shareable(void* pointer, Allocation* shared);
/** Tells of device memory of another process. */
void add_imported(const Allocation& mapped);
/** Bytes of device memory that this process holds. */
std::size_t allocated_bytes();

inline void* to_pointer(CUdeviceptr address) { return reinterpret_cast<void*>(address); }

}  // namespace emulator::cuda
