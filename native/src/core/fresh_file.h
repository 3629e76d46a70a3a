// A file that did not exist before, and is gone again unless somebody keeps it.
#pragma once

#include <string>

#include "core/target_file.h"

namespace weightcast {

class FreshFile : public TargetFile {
 public:
  using TargetFile::TargetFile;
  ~FreshFile();

  /// Closes it and leaves it. @throws Error(WC_FILE_WRITE)
  void keep();
  /// For a file that was kept.
  static void remove(const std::string& path) noexcept;

 private:
  bool kept_ = false;
};

}  // namespace weightcast
