// Arguments, checked once: anything unexpected is Error(WC_NATIVE_ARGUMENT) that names it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "napi_config.h"

namespace weightcast::binding {

inline constexpr double kMostMilliseconds = 2147483647;
inline constexpr std::uint64_t kMostInteger = (std::uint64_t(1) << 53) - 1;

Napi::Object object(Napi::Value value, const char* name);
Napi::Value property(const Napi::Object& object, const char* name);
std::uint64_t integer(Napi::Value value, const char* name, std::uint64_t most = kMostInteger);
std::uint64_t integer(const Napi::Object& object, const char* name, std::uint64_t most = kMostInteger);
bool flag(const Napi::Object& object, const char* name);
double milliseconds(Napi::Value value, const char* name);
/// For arguments that need not be there: undefined is none as well.
std::optional<double> optional_milliseconds(Napi::Value value, const char* name);
std::string text(Napi::Value value, const char* name);
std::vector<std::string> texts(Napi::Value value, const char* name);
/// null is none; undefined is refused, so that a misspelt name fails.
std::optional<std::string> optional_text(Napi::Value value, const char* name);
Napi::Value optional_function(Napi::Value value, const char* name);
Napi::Array array(Napi::Value value, const char* name);

std::span<const std::uint8_t> bytes(Napi::Value value, const char* name);
std::span<const std::uint32_t> words(Napi::Value value, const char* name);
std::span<const float> floats(Napi::Value value, const char* name);
/// A Float64Array of whole numbers from 0 to 2^53 - 1.
std::vector<std::uint64_t> integers(Napi::Value value, const char* name);

[[noreturn]] void refuse(const char* name, const char* expected);

}  // namespace weightcast::binding
