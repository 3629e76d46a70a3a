// A file that this process creates and nobody else has: written once, at any offset, then closed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace weightcast {

class TargetFile {
 public:
  /// Of a file that will be synced so much is handed to the disk at a time.
  static constexpr std::uint64_t kWritebackBytes = std::uint64_t(8) << 20;

  /// Creates it; what exists already is never opened. All that fails here is Error(WC_FILE_WRITE) with `path`,
  /// `call`, `errno` and `errnoName` in its details.
  explicit TargetFile(std::string path);
  /// Closes without asking how that went: for files that are given up.
  ~TargetFile();
  TargetFile(const TargetFile&) = delete;
  TargetFile& operator=(const TargetFile&) = delete;

  const std::string& path() const { return path_; }

  /// Reserves the space, or fails with ENOSPC before anything is written. False when the file system can't
  /// reserve: NFS before 4.2, most FUSE mounts. Those of object stores take bytes in order only.
  bool preallocate(std::uint64_t size);
  void write(const void* bytes, std::size_t length, std::uint64_t offset);
  /// Has the disk begin with what was written there, while more is written elsewhere: sync() then waits for little.
  void start_writeback(std::uint64_t offset, std::uint64_t length) noexcept;
  void truncate(std::uint64_t length);
  /// The bytes and the size are on stable storage afterwards.
  void sync();
  /// NFS and quotas tell only here that something was not written.
  void close();

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace weightcast
