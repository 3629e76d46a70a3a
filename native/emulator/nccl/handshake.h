#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nccl/descriptor.h"

// What a joining rank and the root say to each other: one Hello, one Verdict, on a SOCK_SEQPACKET Unix
// socket.

namespace emulator::nccl {

inline constexpr std::uint64_t kHelloMagic = 0x3176'6c6c'6563'6e77;

struct Hello {
  std::uint64_t magic;
  std::int32_t version;
  std::int32_t ranks;
  std::int32_t rank;
  /** False for a process that has no emulated libcuda: it owns no device that could be shared. */
  std::uint8_t has_device;
  std::uint8_t refuses_duplicates;
  std::uint8_t multi_rank_device;
  std::uint8_t padding;
  std::uint64_t host;
  unsigned char uuid[16];
};

struct Verdict {
  std::int32_t result;
  char text[252];
};

/** Sends one packet with file descriptors attached. */
bool send_packet(int socket, const void* data, std::size_t bytes, const std::vector<int>& descriptors);

/** Receives one packet of exactly `bytes` bytes; nothing at end of file, on error, or when it has another
 * size. */
std::optional<std::vector<Descriptor>> receive_packet(int socket, void* data, std::size_t bytes,
                                                      std::size_t max_descriptors);

/** A socket bound to (listening) or for the abstract name. */
Descriptor listen_at(const std::string& name);
/** An invalid descriptor with errno set when nobody listens there. */
Descriptor connect_to(const std::string& name);

}  // namespace emulator::nccl
