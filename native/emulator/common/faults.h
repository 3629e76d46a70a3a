#pragma once
#include <cstdint>

namespace emulator {

/**
 * Faults of this process, from WEIGHTCAST_EMULATOR_FAULTS (comma separated; README.md has the table). Read
 * once. Numbers are 0 when the fault is off.
 */
struct Faults {
  bool no_driver = false;
  bool no_device = false;
  bool missing_peer = false;
  bool group_depth_leak = false;
  bool leak_init = false;
  std::uint64_t slow_bytes_per_second = 0;
  std::uint64_t init_delay_ms = 0;
  std::uint64_t die_before_broadcast = 0;
  std::uint64_t die_in_broadcast = 0;
  std::uint64_t async_error = 0;
  std::uint64_t out_of_memory_bytes = 0;
};

const Faults& faults();

}  // namespace emulator
