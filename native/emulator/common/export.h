#pragma once

// Everything else in these libraries is hidden.
#define EMULATED extern "C" __attribute__((visibility("default")))

/** What both libraries answer to `weightcast_emulation()`, so that a user can be told what he is looking at.
 */
#define EMULATION_SENTENCE \
  "weightcast emulation over host memory: no GPU, no NVIDIA driver and no NCCL behind it"
