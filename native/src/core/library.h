// A shared library, opened at run time and never closed again: closing libnccl after its first call unmaps
// the code of a thread that it has detached.
#pragma once

#include <string>
#include <vector>

namespace weightcast {

/// Where to look for a library, and how to complain.
struct LibraryQuery {
  const char* label;                  ///< "NCCL", "the CUDA driver"
  const char* soname;                 ///< "libnccl.so.2"
  std::string explicit_path;          ///< empty: search
  std::string explicit_source;        ///< who gave it: "the option", "WEIGHTCAST_NCCL_LIBRARY"
  std::vector<std::string> patterns;  ///< glob patterns, tried after the soname
  const char* error_code;
  const char* advice;
};

class Library {
 public:
  /// Opens the first that loads: the explicit path alone when there is one, else a copy already in the
  /// process, the soname, the patterns. @throws Error(query.error_code) that lists everything tried.
  static Library open(const LibraryQuery& query);

  /// Path of the file that was mapped.
  const std::string& path() const noexcept { return path_; }
  void* find(const char* symbol) const noexcept;

  /// Sets `function`; false when the library lacks it.
  template <class Function>
  bool resolve(Function*& function, const char* symbol) const noexcept {
    function = reinterpret_cast<Function*>(find(symbol));
    return function != nullptr;
  }

 private:
  explicit Library(void* handle);

  void* handle_;
  std::string path_;
};

}  // namespace weightcast
