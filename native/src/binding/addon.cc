// The module: Binding of src/native.ts.
#include "binding/arguments.h"
#include "binding/communicator.h"
#include "binding/delta.h"
#include "binding/device_buffer.h"
#include "binding/file_job.h"
#include "binding/hash.h"
#include "binding/header.h"
#include "binding/runtime.h"
#include "binding/transfer.h"
#include "binding/write.h"

namespace weightcast::binding {
namespace {

template <Napi::Value (*Call)(const Napi::CallbackInfo&), bool Rejects>
napi_value call_function(napi_env raw, napi_callback_info raw_info) {
  const Napi::Env env(raw);
  return guard(
      env,
      [&]() -> napi_value {
        const Napi::CallbackInfo info(raw, raw_info);
        return Call(info);
      },
      [&](Napi::Value error) { return Rejects ? rejected(env, error) : throw_value(env, error); });
}

/// useErrors(factory): how src/native.ts makes errors of this addon WeightcastErrors.
Napi::Value use_errors(const Napi::CallbackInfo& info) {
  if (!info[0].IsFunction()) refuse("factory", "a function");
  Environment::of(info.Env()).errors().use(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

template <Napi::Value (*Call)(const Napi::CallbackInfo&), bool Rejects = false>
void expose(Napi::Object exports, const char* name) {
  napi_value function = nullptr;
  if (napi_create_function(exports.Env(), name, NAPI_AUTO_LENGTH, call_function<Call, Rejects>, nullptr,
                           &function) != napi_ok) {
    throw Napi::Error::New(exports.Env());
  }
  exports.Set(name, Napi::Value(exports.Env(), function));
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  Environment::create(env);
  RuntimeHandle::define(env);
  CommunicatorHandle::define(env);
  DeviceBuffer::define(env);
  TransferHandle::define(env);
  FileJobHandle::define(env);
  expose<open_runtime, true>(exports, "open");
  expose<start_header_scan, true>(exports, "scanHeader");
  expose<start_hash>(exports, "sha256");
  expose<start_write>(exports, "write");
  expose<start_diff>(exports, "diff");
  expose<start_encode>(exports, "encodeDelta");
  expose<start_apply>(exports, "applyDelta");
  expose<describe_zstd>(exports, "zstd");
  expose<use_errors>(exports, "useErrors");
  return exports;
}

}  // namespace
}  // namespace weightcast::binding

using weightcast::binding::initialise;
NODE_API_MODULE(weightcast, initialise)
