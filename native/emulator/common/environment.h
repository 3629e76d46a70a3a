#pragma once
#include <cstdlib>
#include <string_view>

namespace emulator {

inline std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view{} : std::string_view{value};
}

/** The variable as a number that is at least 0; `fallback` when it is absent or not a number. */
inline long long environment_number(const char* name, long long fallback) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return fallback;
  char* end = nullptr;
  const long long number = std::strtoll(value, &end, 10);
  return *end == '\0' && number >= 0 ? number : fallback;
}

}  // namespace emulator
