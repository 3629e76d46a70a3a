// Calls of the C library that the core's writer makes, watched and made to fail.
#pragma once

#include <atomic>
#include <cstdint>

struct Faults {
  std::atomic<int> fallocate{0};  ///< errno
  std::atomic<int> fdatasync{0};  ///< errno
  std::atomic<int> close{0};      ///< errno, of descriptors that are written to
  std::atomic<int> pwrite{0};     ///< errno, after
  std::atomic<std::uint64_t> pwrite_after{0};  ///< so many bytes
  std::atomic<bool> short_writes{false};
  std::atomic<bool> hang_in_sync{false};
  const char* touched = nullptr;  ///< this file is written to before every write

  std::atomic<std::uint64_t> written{0};
  std::atomic<bool> in_order{true};  ///< every write began where the one before on that descriptor ended
  std::atomic<int> syncs{0};

  void reset();
};

Faults& faults();
