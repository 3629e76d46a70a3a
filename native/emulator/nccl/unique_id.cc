#include "nccl/unique_id.h"

#include <sys/random.h>
#include <sys/socket.h>

#include <cstdlib>

namespace emulator::nccl {
namespace {

constexpr std::size_t kFamilyAt = 8;
constexpr std::size_t kTokenAt = 10;
constexpr std::size_t kTokenBytes = 16;
constexpr std::size_t kUsedBytes = kTokenAt + kTokenBytes;

}  // namespace

ncclUniqueId random_unique_id() {
  ncclUniqueId id = {};
  if (getrandom(id.internal, kUsedBytes, 0) != static_cast<ssize_t>(kUsedBytes)) std::abort();
  id.internal[0] |= 1;
  id.internal[kFamilyAt] = AF_UNIX;
  id.internal[kFamilyAt + 1] = 0;
  return id;
}

std::optional<std::string> socket_name(const ncclUniqueId& id) {
  if (id.internal[kFamilyAt] != AF_UNIX || id.internal[kFamilyAt + 1] != 0 || id.internal[0] == 0)
    return std::nullopt;
  for (std::size_t i = kUsedBytes; i < sizeof id.internal; ++i) {
    if (id.internal[i] != 0) return std::nullopt;
  }
  std::string name = "weightcast-emulated-nccl-";
  for (std::size_t i = kTokenAt; i < kUsedBytes; ++i) {
    constexpr char kHex[] = "0123456789abcdef";
    name += kHex[id.internal[i] >> 4];
    name += kHex[id.internal[i] & 15];
  }
  return name;
}

}  // namespace emulator::nccl
