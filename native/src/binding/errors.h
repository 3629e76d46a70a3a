// The one place where an Error of the core becomes a JavaScript error.
#pragma once

#include "core/error.h"
#include "napi_config.h"

namespace weightcast::binding {

class Errors {
 public:
  /// `factory(code, message, details)` makes the errors; src/native.ts hands in one for WeightcastError.
  void use(Napi::Function factory) { factory_ = Napi::Persistent(factory); }
  Napi::Value make(Napi::Env env, const Error& error) const;

 private:
  Napi::FunctionReference factory_;
};

}  // namespace weightcast::binding
