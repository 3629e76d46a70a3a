#include "core/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/call_watch.h"
#include "core/error.h"

namespace weightcast {
namespace {

Error read_error(const std::string& path, const char* what) {
  return Error(code::kFileRead, std::string("cannot ") + what + " " + path + ": " + std::strerror(errno),
               {{"path", path}, {"errno", double(errno)}});
}

Error changed(const std::string& path, const std::string& how) {
  return Error(code::kCheckpointChanged, path + " changed while it was being read: " + how, {{"path", path}});
}

}  // namespace

File::File(std::string path) : path_(std::move(path)) {
  const WatchedCall inside("open", path_.c_str());
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) throw read_error(path_, "open");
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    if (!S_ISREG(status.st_mode)) errno = EINVAL;
    const auto error = read_error(path_, "read");
    ::close(descriptor_);
    throw error;
  }
  size_ = std::uint64_t(status.st_size);
  modified_ = status.st_mtim;
  ::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_SEQUENTIAL);
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_),
      modified_(other.modified_) {}

File::~File() {
  if (descriptor_ < 0) return;
  const WatchedCall inside("close", path_.c_str());
  ::close(descriptor_);
}

void File::read(void* target, std::size_t length, std::uint64_t offset) const {
  auto* bytes = static_cast<char*>(target);
  while (length > 0) {
    const ssize_t got = ::pread(descriptor_, bytes, length, off_t(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw read_error(path_, "read");
    if (got == 0) throw changed(path_, "it ends at byte " + std::to_string(offset));
    bytes += got;
    offset += std::uint64_t(got);
    length -= std::size_t(got);
  }
}

void File::expect_size(std::uint64_t size) const {
  if (size_ == size) return;
  throw changed(path_,
                "it has " + std::to_string(size_) + " bytes, " + std::to_string(size) + " when planned");
}

void File::expect_unchanged() const {
  const WatchedCall inside("fstat", path_.c_str());
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) throw read_error(path_, "read");
  if (std::uint64_t(status.st_size) != size_) {
    throw changed(
        path_, "it has " + std::to_string(status.st_size) + " bytes, " + std::to_string(size_) + " before");
  }
  if (status.st_mtim.tv_sec != modified_.tv_sec || status.st_mtim.tv_nsec != modified_.tv_nsec) {
    throw changed(path_, "it was written to");
  }
}

std::vector<File> open_files(const std::vector<std::string>& paths,
                             const std::vector<std::uint64_t>& sizes) {
  std::vector<File> files;
  files.reserve(paths.size());
  for (std::size_t i = 0; i < paths.size(); ++i) files.emplace_back(paths[i]).expect_size(sizes[i]);
  return files;
}

}  // namespace weightcast
