#include "core/fresh_file.h"

#include <unistd.h>

#include "core/call_watch.h"

namespace weightcast {

FreshFile::~FreshFile() {
  if (!kept_) remove(path());
}

void FreshFile::keep() {
  close();
  kept_ = true;
}

void FreshFile::remove(const std::string& path) noexcept {
  const WatchedCall inside("unlink", path.c_str());
  ::unlink(path.c_str());
}

}  // namespace weightcast
