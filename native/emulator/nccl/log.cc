#include "nccl/log.h"

#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <mutex>
#include <string_view>

#include "common/environment.h"

namespace emulator::nccl {
namespace {

enum Level { kSilent, kWarn, kInfo };

Level level() {
  static const Level chosen = [] {
    const auto text = environment("NCCL_DEBUG");
    if (text == "WARN") return kWarn;
    return text == "INFO" || text == "TRACE" ? kInfo : kSilent;
  }();
  return chosen;
}

// The real library has one buffer a process too, and hands out its address; here at least writes are ordered.
std::mutex& log_mutex = *new std::mutex;  // guards last
char last[1024] = "";

void print(Level wanted, const char* label, const char* text) {
  if (level() < wanted) return;
  std::fprintf(stderr, "[%d] emulated NCCL %s %s\n", getpid(), label, text);
}

}  // namespace

ncclResult_t fail(ncclResult_t code, const char* format, ...) {
  char text[900];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  {
    std::lock_guard lock(log_mutex);
    std::snprintf(last, sizeof last, "%s (weightcast emulation of NCCL, no GPU)", text);
  }
  print(kWarn, "WARN", text);
  return code;
}

void warn(const char* format, ...) {
  char text[900];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  print(kWarn, "WARN", text);
}

void inform(const char* format, ...) {
  char text[900];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  print(kInfo, "INFO", text);
}

const char* last_error() { return last; }

}  // namespace emulator::nccl
