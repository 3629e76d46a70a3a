#include "binding/hash.h"

#include <cstring>

#include "binding/arguments.h"
#include "binding/plan.h"
#include "binding/progress.h"
#include "binding/values.h"

namespace weightcast::binding {
namespace {

Napi::Value to_digests(Napi::Env env, const std::vector<Digest>& digests) {
  static_assert(sizeof(Digest) == 32);
  return to_bytes(env, digests.data(), digests.size() * sizeof(Digest));
}

}  // namespace

void HashHandle::define(Napi::Env env) {
  binding::define<HashHandle>(env, {method<HashHandle, &HashHandle::cancel>("cancel")});
}

Napi::Value HashHandle::cancel(const Napi::CallbackInfo& info) {
  if (job_ != nullptr) job_->request_stop();  // else it could not start
  return info.Env().Undefined();
}

Napi::Value start_hash(const Napi::CallbackInfo& info) {
  auto plan = to_hash_plan(info[0]);
  const auto on_progress = optional_function(info[1], "onProgress");
  std::shared_ptr<HashJob> job;
  const auto result = promise<std::vector<Digest>>(
      info, to_digests,
      [&](Done<std::vector<Digest>> done, OperationId id) {
        job = HashJob::start(std::move(plan), byte_progress(on_progress, id), std::move(done));
      },
      on_progress);
  if (job != nullptr) Environment::of(info.Env()).adopt(job);
  auto handle = make<HashHandle>(info.Env(), job);
  handle.Set("result", result);
  return handle;
}

}  // namespace weightcast::binding
