// What the environment says about the libraries, as it was when somebody asked.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace weightcast {

class Variables {
 public:
  /// For a thread of JavaScript: writes to `process.env` are setenv, with which a getenv on another thread
  /// races.
  static Variables now();

  /// Null when it is not set.
  const std::string* find(std::string_view name) const;
  /// "" when it is not set.
  std::string text(std::string_view name) const;

 private:
  std::map<std::string, std::string, std::less<>> values_;
};

}  // namespace weightcast
