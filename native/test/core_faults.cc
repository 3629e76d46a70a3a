#include "core_faults.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>

namespace {

std::mutex mutex;
std::map<int, off_t> ends;  // guarded by mutex: of the descriptors that are written to

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

int fail(int number) {
  errno = number;
  return -1;
}

}  // namespace

Faults& faults() {
  static Faults instance;
  return instance;
}

void Faults::reset() {
  fallocate = fdatasync = close = pwrite = 0;
  pwrite_after = written = 0;
  short_writes = hang_in_sync = false;
  touched = nullptr;
  in_order = true;
  syncs = 0;
}

extern "C" int fallocate(int descriptor, int mode, off_t offset, off_t length) {
  if (const int number = faults().fallocate) return fail(number);
  return next<int(int, int, off_t, off_t)>("fallocate")(descriptor, mode, offset, length);
}

extern "C" ssize_t pwrite(int descriptor, const void* bytes, size_t length, off_t offset) {
  auto& state = faults();
  if (state.pwrite != 0 && state.written >= state.pwrite_after) return fail(state.pwrite);
  if (state.short_writes) length = std::min<size_t>(length, 10'007);
  {
    std::lock_guard lock(mutex);
    off_t& end = ends[descriptor];
    if (end != offset) state.in_order = false;
    end = offset + off_t(length);
  }
  state.written += length;
  if (state.touched != nullptr) ::utimensat(AT_FDCWD, state.touched, nullptr, 0);
  return next<ssize_t(int, const void*, size_t, off_t)>("pwrite")(descriptor, bytes, length, offset);
}

extern "C" int fdatasync(int descriptor) {
  auto& state = faults();
  ++state.syncs;
  while (state.hang_in_sync) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  if (const int number = state.fdatasync) return fail(number);
  return next<int(int)>("fdatasync")(descriptor);
}

extern "C" int close(int descriptor) {
  bool target = false;
  {
    std::lock_guard lock(mutex);
    target = ends.erase(descriptor) > 0;
  }
  const int result = next<int(int)>("close")(descriptor);
  if (const int number = faults().close; target && number != 0) return fail(number);
  return result;
}
