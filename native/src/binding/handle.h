// Handles: JavaScript objects that own a C++ object, known by a type tag. A method called on anything else
// throws; a handle that is collected destroys what it owns, which never waits.
#pragma once

#include <initializer_list>
#include <memory>

#include "binding/environment.h"
#include "core/error.h"

namespace weightcast::binding {

/// A handle class T has `static constexpr napi_type_tag kTag` and `static constexpr const char* kName`.
template <class T>
T& unwrap(Napi::Value value) {
  bool same = false;
  void* data = nullptr;
  if (!value.IsObject() || napi_check_object_type_tag(value.Env(), value, &T::kTag, &same) != napi_ok ||
      !same || napi_unwrap(value.Env(), value, &data) != napi_ok) {
    throw Error(code::kArgument, std::string("expected a ") + T::kName + " handle");
  }
  return *static_cast<T*>(data);
}

/// Runs `work`; whatever it throws, but a JavaScript error, becomes an Error, and that what `fail` makes of
/// it.
template <class Work, class Fail>
napi_value guard(Napi::Env env, Work&& work, Fail&& fail) {
  try {
    try {
      return work();
    } catch (const Napi::Error&) {
      throw;
    } catch (...) {
      return fail(Environment::of(env).errors().make(env, current_error()));
    }
  } catch (const Napi::Error& error) {
    error.ThrowAsJavaScriptException();
  }
  return nullptr;
}

inline napi_value throw_value(Napi::Env env, Napi::Value value) {
  napi_throw(env, value);
  return nullptr;
}

inline napi_value rejected(Napi::Env env, Napi::Value value) {
  auto deferred = Napi::Promise::Deferred::New(env);
  deferred.Reject(value);
  return deferred.Promise();
}

/// A method or getter that throws.
template <class T, Napi::Value (T::*Method)(const Napi::CallbackInfo&)>
napi_value call_method(napi_env raw, napi_callback_info raw_info) {
  const Napi::Env env(raw);
  return guard(
      env,
      [&]() -> napi_value {
        const Napi::CallbackInfo info(raw, raw_info);
        return (unwrap<T>(info.This()).*Method)(info);
      },
      [&](Napi::Value error) { return throw_value(env, error); });
}

/// A method that gives a promise, also of its argument errors.
template <class T, Napi::Value (T::*Method)(const Napi::CallbackInfo&)>
napi_value call_async_method(napi_env raw, napi_callback_info raw_info) {
  const Napi::Env env(raw);
  return guard(
      env,
      [&]() -> napi_value {
        const Napi::CallbackInfo info(raw, raw_info);
        return (unwrap<T>(info.This()).*Method)(info);
      },
      [&](Napi::Value error) { return rejected(env, error); });
}

struct Member {
  const char* name;
  napi_callback method;
  napi_callback getter;
};

template <class T, Napi::Value (T::*Method)(const Napi::CallbackInfo&)>
Member method(const char* name) {
  return {name, call_method<T, Method>, nullptr};
}
template <class T, Napi::Value (T::*Method)(const Napi::CallbackInfo&)>
Member async_method(const char* name) {
  return {name, call_async_method<T, Method>, nullptr};
}
template <class T, Napi::Value (T::*Method)(const Napi::CallbackInfo&)>
Member getter(const char* name) {
  return {name, nullptr, call_method<T, Method>};
}

/// Makes the class of T known to this environment. Objects made by calling it from JavaScript own nothing.
template <class T>
void define(Napi::Env env, std::initializer_list<Member> members) {
  std::vector<napi_property_descriptor> properties;
  for (const auto& member : members) {
    properties.push_back({member.name, nullptr, member.method, member.getter, nullptr, nullptr,
                          member.getter == nullptr ? napi_default_method : napi_enumerable, nullptr});
  }
  auto construct = [](napi_env raw, napi_callback_info info) -> napi_value {
    napi_value self = nullptr;
    napi_get_cb_info(raw, info, nullptr, nullptr, &self, nullptr);
    return self;
  };
  napi_value made = nullptr;
  if (napi_define_class(env, T::kName, NAPI_AUTO_LENGTH, construct, nullptr, properties.size(),
                        properties.data(), &made) != napi_ok) {
    throw Napi::Error::New(env);
  }
  Environment::of(env).classes()[&T::kTag] = Napi::Persistent(Napi::Function(env, made));
}

template <class T, class... Arguments>
Napi::Object make(Napi::Env env, Arguments&&... arguments) {
  auto owned = std::make_unique<T>(std::forward<Arguments>(arguments)...);
  auto handle = Environment::of(env).classes().at(&T::kTag).Value().New({});
  auto finalize = [](napi_env, void* data, void*) { delete static_cast<T*>(data); };
  if (napi_wrap(env, handle, owned.get(), finalize, nullptr, nullptr) != napi_ok) throw Napi::Error::New(env);
  (void)owned.release();
  if (napi_type_tag_object(env, handle, &T::kTag) != napi_ok) throw Napi::Error::New(env);
  return handle;
}

}  // namespace weightcast::binding
