#pragma once
#include <cstdint>

/**
 * What the emulated libnccl knows about a stream of the emulated libcuda: the head of the object behind a
 * CUstream. The two libraries share this layout and no symbol, because each is loaded by path and privately.
 */
namespace emulator {

inline constexpr std::uint64_t kStreamMagic = 0x6d61'6572'7473'6377;  // "wcstream"

struct StreamHandle {
  std::uint64_t magic;
  /** Appends a host function to the stream; false when the stream is no more. */
  bool (*enqueue)(StreamHandle*, void (*run)(void*), void* argument);
};

/** Null, legacy (1) and per-thread (2): work on these is done in the caller. */
inline bool is_default_stream(const void* stream) { return reinterpret_cast<std::uintptr_t>(stream) <= 2; }

}  // namespace emulator
