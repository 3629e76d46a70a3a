#include "common/faults.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "common/environment.h"

namespace emulator {
namespace {

struct Switch {
  std::string_view name;
  bool Faults::* on;
};
struct Amount {
  std::string_view name;
  std::uint64_t Faults::* value;
};

constexpr Switch kSwitches[] = {
    {"no-driver", &Faults::no_driver},           {"no-device", &Faults::no_device},
    {"missing-peer", &Faults::missing_peer},     {"group-depth-leak", &Faults::group_depth_leak},
    {"leak-init", &Faults::leak_init},           {"driver-too-old", &Faults::driver_too_old},
    {"crash-on-reuse", &Faults::crash_on_reuse},
};
constexpr Amount kAmounts[] = {
    {"slow", &Faults::slow_bytes_per_second},
    {"init-delay", &Faults::init_delay_ms},
    {"die-before-broadcast", &Faults::die_before_broadcast},
    {"die-in-broadcast", &Faults::die_in_broadcast},
    {"die-after-broadcast", &Faults::die_after_broadcast},
    {"async-error", &Faults::async_error},
    {"out-of-memory", &Faults::out_of_memory_bytes},
    {"hang-in-copy", &Faults::hang_in_copy},
};

constexpr std::string_view kCallsThatCanHang[] = {
    "cuInit",
    "cuDevicePrimaryCtxRetain",
    "cuMemGetInfo",
    "cuMemAlloc",
    "cuMemFree",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuStreamCreate",
    "cuStreamDestroy",
    "cuEventQuery",
    "cuMemcpyHtoDAsync",
    "cuMemcpyDtoHAsync",
    "ncclGetUniqueId",
    "ncclCommInitRankConfig",
    "ncclBroadcast",
    "ncclCommGetAsyncError",
    "ncclCommFinalize",
    "ncclCommDestroy",
    "ncclCommAbort",
};

bool apply(Faults& faults, std::string_view item) {
  const auto equals = item.find('=');
  const auto name = item.substr(0, equals);
  if (equals == std::string_view::npos) {
    for (const auto& entry : kSwitches) {
      if (entry.name == name) return faults.*entry.on = true;
    }
    return false;
  }
  const std::string text(item.substr(equals + 1));
  if (name == "hang") {
    faults.hanging.push_back(text);
    return std::find(std::begin(kCallsThatCanHang), std::end(kCallsThatCanHang), text) !=
           std::end(kCallsThatCanHang);
  }
  char* end = nullptr;
  const auto number = std::strtoull(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || number == 0) return false;
  for (const auto& entry : kAmounts) {
    if (entry.name == name) return (faults.*entry.value = number) != 0;
  }
  return false;
}

Faults parse(std::string_view text) {
  Faults faults;
  while (!text.empty()) {
    const auto comma = text.find(',');
    const auto item = text.substr(0, comma);
    // A mistyped fault would make a test pass for the wrong reason.
    if (!item.empty() && !apply(faults, item)) {
      std::fprintf(stderr, "weightcast emulator: WEIGHTCAST_EMULATOR_FAULTS: unknown fault '%.*s'\n",
                   static_cast<int>(item.size()), item.data());
    }
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
  }
  return faults;
}

}  // namespace

const Faults& faults() {
  // Never destroyed: threads that hang outlive the static objects.
  static const auto& parsed = *new Faults(parse(environment("WEIGHTCAST_EMULATOR_FAULTS")));
  return parsed;
}

void hang_if_told(std::string_view call) {
  const auto& hanging = faults().hanging;
  if (hanging.empty() || std::find(hanging.begin(), hanging.end(), call) == hanging.end()) return;
  for (;;) pause();
}

}  // namespace emulator
