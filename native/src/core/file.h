// A file opened for reading, with the identity that it must keep while it is read.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace weightcast {

class File {
 public:
  /// @throws Error(WC_FILE_READ)
  explicit File(std::string path);
  ~File();
  File(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const std::string& path() const { return path_; }
  std::uint64_t size() const { return size_; }

  /// Reads exactly `length` bytes. @throws Error WC_CHECKPOINT_CHANGED at a premature end, WC_FILE_READ
  void read(void* target, std::size_t length, std::uint64_t offset) const;
  /// @throws Error(WC_CHECKPOINT_CHANGED) when size or modification time differ from those at the opening.
  void expect_unchanged() const;
  void expect_size(std::uint64_t size) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  timespec modified_{};
};

/// Opens all of them, each of which must have its size. @throws Error as File says
std::vector<File> open_files(const std::vector<std::string>& paths, const std::vector<std::uint64_t>& sizes);

}  // namespace weightcast
