#include "binding/runtime.h"

#include <algorithm>

#include "binding/arguments.h"
#include "binding/communicator.h"
#include "binding/values.h"
#include "core/limited.h"

namespace weightcast::binding {
namespace {

using Self = RuntimeHandle;
constexpr std::uint64_t kMostDevices = 1024;

/// Runs `work` on a thread of its own, with a limit: the pool of libuv belongs to files and names.
template <class T, class Convert, class Work>
Napi::Value on_helper(const Napi::CallbackInfo& info, double limit_ms, Convert convert, Work work) {
  return promise<T>(info, std::move(convert), [&](Done<T> done, OperationId) {
    run_limited<T>(Environment::of(info.Env()).helpers(), limit_ms, std::move(work), std::move(done));
  });
}

}  // namespace

void RuntimeHandle::define(Napi::Env env) {
  binding::define<Self>(env, {
                                 getter<Self, &Self::cuda_library>("cudaLibrary"),
                                 getter<Self, &Self::nccl_library>("ncclLibrary"),
                                 getter<Self, &Self::nccl_version>("ncclVersion"),
                                 getter<Self, &Self::driver_version>("cudaDriverVersion"),
                                 getter<Self, &Self::emulated>("emulated"),
                                 method<Self, &Self::devices>("devices"),
                                 async_method<Self, &Self::memory>("memory"),
                                 async_method<Self, &Self::unique_id>("uniqueId"),
                                 async_method<Self, &Self::communicator>("communicator"),
                             });
}

Napi::Value open_runtime(const Napi::CallbackInfo& info) {
  RuntimePaths paths{optional_text(info[0], "cudaLibrary"), optional_text(info[1], "ncclLibrary"),
                     Variables::now()};
  const double limit_ms = optional_milliseconds(info[2], "callLimitMs").value_or(kCallLimitMs);
  using Opened = std::shared_ptr<const Runtime>;
  return on_helper<Opened>(
      info, limit_ms,
      [](Napi::Env env, Opened runtime) { return make<RuntimeHandle>(env, std::move(runtime)); },
      [paths = std::move(paths), limit_ms] { return Runtime::open(paths, limit_ms); });
}

Napi::Value RuntimeHandle::cuda_library(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), runtime_->cuda_path());
}

Napi::Value RuntimeHandle::nccl_library(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), runtime_->nccl_path());
}

Napi::Value RuntimeHandle::nccl_version(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), runtime_->nccl().version);
}

Napi::Value RuntimeHandle::driver_version(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), runtime_->driver_version());
}

Napi::Value RuntimeHandle::emulated(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), runtime_->emulated());
}

Napi::Value RuntimeHandle::devices(const Napi::CallbackInfo& info) {
  const auto& devices = runtime_->devices();
  auto list = Napi::Array::New(info.Env(), devices.size());
  for (std::uint32_t i = 0; i < devices.size(); ++i) {
    auto device = Napi::Object::New(info.Env());
    device.Set("index", devices[i].index);
    device.Set("name", devices[i].name);
    device.Set("uuid", devices[i].uuid);
    device.Set("totalMemory", double(devices[i].total_memory));
    list.Set(i, device);
  }
  return list;
}

double RuntimeHandle::limit(Napi::Value timeout) const {
  const double most = runtime_->call_limit_ms();
  return std::min(most, optional_milliseconds(timeout, "timeoutMs").value_or(most));
}

Napi::Value RuntimeHandle::memory(const Napi::CallbackInfo& info) {
  const int device = int(integer(info[0], "device", kMostDevices));
  auto convert = [](Napi::Env env, MemoryInfo memory) {
    auto result = Napi::Object::New(env);
    result.Set("free", double(memory.free));
    result.Set("total", double(memory.total));
    return result;
  };
  return on_helper<MemoryInfo>(info, limit(info[1]), convert,
                               [runtime = runtime_, device] { return runtime->memory(device); });
}

Napi::Value RuntimeHandle::unique_id(const Napi::CallbackInfo& info) {
  return on_helper<NcclUniqueId>(
      info, limit(info[0]),
      [](Napi::Env env, const NcclUniqueId& id) { return to_bytes(env, id.bytes, sizeof id.bytes); },
      [runtime = runtime_] { return runtime->unique_id(); });
}

Napi::Value RuntimeHandle::communicator(const Napi::CallbackInfo& info) {
  const int device = int(integer(info[0], "device", kMostDevices));
  const auto timeout_ms = optional_milliseconds(info[1], "timeoutMs");
  auto communicator = std::make_shared<Communicator>(CommunicatorThread::start(runtime_, device));
  Environment::of(info.Env()).adopt(communicator->stoppable());
  return promise<Unit>(
      info, [communicator](Napi::Env env, Unit) { return make<CommunicatorHandle>(env, communicator); },
      [&](Done<Unit> done, OperationId) { communicator->enter(timeout_ms, std::move(done)); });
}

}  // namespace weightcast::binding
