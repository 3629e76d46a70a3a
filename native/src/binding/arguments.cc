#include "binding/arguments.h"

#include <cmath>

#include "core/error.h"

namespace weightcast::binding {
namespace {

template <class Element>
std::span<const Element> typed(Napi::Value value, const char* name, napi_typedarray_type type,
                               const char* expected) {
  if (!value.IsTypedArray()) refuse(name, expected);
  napi_typedarray_type actual{};
  std::size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(value.Env(), value, &actual, &length, &data, nullptr, nullptr) != napi_ok ||
      actual != type) {
    refuse(name, expected);
  }
  return {static_cast<const Element*>(data), length};
}

bool is_whole(double number, std::uint64_t most) {
  return number >= 0 && number <= double(most) && std::trunc(number) == number;
}

}  // namespace

void refuse(const char* name, const char* expected) {
  throw Error(code::kArgument, std::string(name) + " must be " + expected);
}

Napi::Object object(Napi::Value value, const char* name) {
  if (!value.IsObject()) refuse(name, "an object");
  return value.As<Napi::Object>();
}

Napi::Value property(const Napi::Object& object, const char* name) { return object.Get(name); }

std::uint64_t integer(Napi::Value value, const char* name, std::uint64_t most) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!is_whole(number, most)) refuse(name, ("a whole number from 0 to " + std::to_string(most)).c_str());
  return std::uint64_t(number);
}

std::uint64_t integer(const Napi::Object& object, const char* name, std::uint64_t most) {
  return integer(property(object, name), name, most);
}

bool flag(const Napi::Object& object, const char* name) {
  const auto value = property(object, name);
  if (!value.IsBoolean()) refuse(name, "a boolean");
  return value.As<Napi::Boolean>();
}

double milliseconds(Napi::Value value, const char* name) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0 && number <= kMostMilliseconds)) refuse(name, "milliseconds from 0 to 2147483647");
  return number;
}

std::optional<double> optional_milliseconds(Napi::Value value, const char* name) {
  if (value.IsUndefined() || value.IsNull()) return std::nullopt;
  return milliseconds(value, name);
}

std::string text(Napi::Value value, const char* name) {
  if (!value.IsString()) refuse(name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

std::vector<std::string> texts(Napi::Value value, const char* name) {
  const auto list = array(value, name);
  std::vector<std::string> values;
  for (std::uint32_t i = 0; i < list.Length(); ++i) values.push_back(text(list.Get(i), name));
  return values;
}

std::optional<std::string> optional_text(Napi::Value value, const char* name) {
  if (value.IsNull()) return std::nullopt;
  return text(value, name);
}

Napi::Value optional_function(Napi::Value value, const char* name) {
  if (!value.IsNull() && !value.IsFunction()) refuse(name, "a function or null");
  return value;
}

Napi::Array array(Napi::Value value, const char* name) {
  if (!value.IsArray()) refuse(name, "an array");
  return value.As<Napi::Array>();
}

std::span<const std::uint8_t> bytes(Napi::Value value, const char* name) {
  return typed<std::uint8_t>(value, name, napi_uint8_array, "a Uint8Array");
}

std::span<const std::uint32_t> words(Napi::Value value, const char* name) {
  return typed<std::uint32_t>(value, name, napi_uint32_array, "a Uint32Array");
}

std::span<const float> floats(Napi::Value value, const char* name) {
  return typed<float>(value, name, napi_float32_array, "a Float32Array");
}

std::vector<std::uint64_t> integers(Napi::Value value, const char* name) {
  const auto numbers = typed<double>(value, name, napi_float64_array, "a Float64Array");
  std::vector<std::uint64_t> whole;
  whole.reserve(numbers.size());
  for (const double number : numbers) {
    if (!is_whole(number, kMostInteger)) refuse(name, "a Float64Array of whole numbers");
    whole.push_back(std::uint64_t(number));
  }
  return whole;
}

}  // namespace weightcast::binding
