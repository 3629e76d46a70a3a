#include "core/library.h"

#include <dlfcn.h>
#include <elf.h>
#include <glob.h>
#include <link.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "core/call_watch.h"
#include "core/error.h"

namespace weightcast {
namespace {

constexpr int kFlags = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE;

std::vector<std::string> expand(const std::string& pattern) {
  const WatchedCall inside("glob", pattern.c_str());
  glob_t found{};
  std::vector<std::string> paths;
  if (::glob(pattern.c_str(), 0, nullptr, &found) == 0) {
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
    std::reverse(paths.begin(), paths.end());  // the newest Python first
  }
  ::globfree(&found);
  return paths;
}

std::string last_error() {
  const char* text = ::dlerror();
  return text == nullptr ? "unknown error" : text;
}

/// The loader skips a library of another processor and says "no such file". What it is built for instead, or
/// "".
std::string foreign_machine(const std::string& path) {
  Elf64_Ehdr header{};
  std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(&header), sizeof header);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return "";
#if defined(__aarch64__)
  constexpr int kOurs = EM_AARCH64;
#else
  constexpr int kOurs = EM_X86_64;
#endif
  if (header.e_ident[EI_CLASS] == ELFCLASS64 && header.e_machine == kOurs) return "";
  const char* theirs = header.e_machine == EM_AARCH64  ? "64-bit ARM"
                       : header.e_machine == EM_X86_64 ? "64-bit x86"
                                                       : "another processor";
  return path + ": built for " + theirs + ", not for this process's " +
         (kOurs == EM_AARCH64 ? "64-bit ARM" : "64-bit x86");
}

[[noreturn]] void fail(const LibraryQuery& query, const std::vector<std::string>& tried) {
  std::string message = std::string(query.label) + " (" + query.soname + ") could not be loaded";
  if (!query.explicit_path.empty()) message += " from the path that " + query.explicit_source + " gives";
  message += "; tried:";
  for (const auto& line : tried) message.append("\n  ").append(line);
  message.append("\n").append(query.advice);
  throw Error(query.error_code, message, {{"tried", tried}});
}

}  // namespace

Library::Library(void* handle) : handle_(handle) {
  link_map* map = nullptr;
  if (::dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map != nullptr) path_ = map->l_name;
}

void* Library::find(const char* symbol) const noexcept { return ::dlsym(handle_, symbol); }

Library Library::open(const LibraryQuery& query) {
  std::vector<std::string> tried;
  auto attempt = [&tried](const std::string& path) {
    const WatchedCall inside("dlopen", path.c_str());
    void* handle = ::dlopen(path.c_str(), kFlags);
    if (handle == nullptr) {
      const auto other = foreign_machine(path);
      const auto reason = other.empty() ? last_error() : other;
      // dlerror mostly begins with the path itself
      tried.push_back(reason.starts_with(path) ? reason : path + ": " + reason);
    }
    return handle;
  };

  if (!query.explicit_path.empty()) {
    void* handle = attempt(query.explicit_path);
    if (handle == nullptr) fail(query, tried);
    return Library(handle);
  }
  if (void* handle = ::dlopen(query.soname, kFlags | RTLD_NOLOAD)) return Library(handle);
  if (void* handle = attempt(query.soname)) return Library(handle);
  for (const auto& pattern : query.patterns) {
    const auto paths = expand(pattern);
    if (paths.empty()) tried.push_back(pattern + ": no such file");
    for (const auto& path : paths) {
      if (void* handle = attempt(path)) return Library(handle);
    }
  }
  fail(query, tried);
}

}  // namespace weightcast
