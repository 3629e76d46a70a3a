#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

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
  bool driver_too_old = false;
  bool crash_on_reuse = false;
  std::uint64_t slow_bytes_per_second = 0;
  std::uint64_t init_delay_ms = 0;
  std::uint64_t die_before_broadcast = 0;
  std::uint64_t die_in_broadcast = 0;
  std::uint64_t die_after_broadcast = 0;
  std::uint64_t async_error = 0;
  std::uint64_t out_of_memory_bytes = 0;
  std::uint64_t hang_in_copy = 0;
  /** Calls that never return. */
  std::vector<std::string> hanging;
};

const Faults& faults();

/** The `hang` fault: never returns when `call` is to hang. */
void hang_if_told(std::string_view call);

}  // namespace emulator
