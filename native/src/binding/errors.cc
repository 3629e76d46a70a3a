#include "binding/errors.h"

namespace weightcast::binding {
namespace {

Napi::Value to_value(Napi::Env env, const Detail& detail) {
  if (const auto* number = std::get_if<double>(&detail)) return Napi::Number::New(env, *number);
  if (const auto* text = std::get_if<std::string>(&detail)) return Napi::String::New(env, *text);
  const auto& lines = std::get<std::vector<std::string>>(detail);
  auto array = Napi::Array::New(env, lines.size());
  for (std::uint32_t i = 0; i < lines.size(); ++i) array.Set(i, lines[i]);
  return array;
}

}  // namespace

Napi::Value Errors::make(Napi::Env env, const Error& error) const {
  auto details = Napi::Object::New(env);
  for (const auto& [key, detail] : error.details()) details.Set(key, to_value(env, detail));
  if (!factory_.IsEmpty()) {
    return factory_.Value().Call(
        {Napi::String::New(env, error.code()), Napi::String::New(env, error.what()), details});
  }
  auto plain = Napi::Error::New(env, error.what());
  plain.Set("code", error.code());
  plain.Set("details", details);
  return plain.Value();
}

}  // namespace weightcast::binding
