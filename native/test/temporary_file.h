#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "core_check.h"

namespace weightcast {

using Content = std::vector<std::uint8_t>;

/// A folder that is removed with all that is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() { CORE_CHECK(::mkdtemp(path_.data()) != nullptr); }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;

  std::string path(const std::string& name) const { return path_ + "/" + name; }
  std::string put(const std::string& name, const Content& bytes) const {
    const auto at = path(name);
    std::ofstream file(at, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
    CORE_CHECK(file.good());
    return at;
  }

 private:
  std::string path_ = "/tmp/weightcast-test-XXXXXX";
};

inline bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

inline Content content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  CORE_CHECK(file.good());
  return Content(std::istreambuf_iterator<char>(file), {});
}

/// The same numbers on every run.
class TestRandom {
 public:
  explicit TestRandom(std::uint64_t seed) : state_(seed * 2 + 1) {}
  std::uint32_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return std::uint32_t(state_ >> 33);
  }
  /// Below `limit`.
  std::size_t below(std::size_t limit) { return (std::size_t(next()) << 20 ^ next()) % limit; }
  Content bytes(std::size_t count) {
    Content bytes(count);
    for (auto& byte : bytes) byte = std::uint8_t(next());
    return bytes;
  }

 private:
  std::uint64_t state_;
};

}  // namespace weightcast
