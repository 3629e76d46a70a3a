// Which bytes are compared with which.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace weightcast {

/// Two runs of `length` bytes: of the version before, and of the new one.
struct DiffPair {
  static constexpr std::uint32_t kNoBase = 0xffffffff;

  std::uint32_t base_file;  ///< or kNoBase: there was nothing like it before
  std::uint64_t base_offset;
  std::uint32_t new_file;
  std::uint64_t new_offset;
  std::uint64_t length;
  std::uint32_t element_bytes;  ///< 1, 2, 4 or 8; the length is a multiple

  bool based() const { return base_file != kNoBase; }
};

inline constexpr unsigned kMostThreads = 1024;

struct DiffPlan {
  std::vector<std::string> files;
  std::vector<std::uint64_t> file_sizes;
  std::vector<DiffPair> pairs;
  unsigned threads = 0;
};

}  // namespace weightcast
