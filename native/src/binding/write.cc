#include "binding/write.h"

#include "binding/arguments.h"
#include "binding/plan.h"
#include "binding/progress.h"
#include "binding/values.h"

namespace weightcast::binding {
namespace {

Napi::Value to_written(Napi::Env env, const Written& written) {
  static_assert(sizeof(Digest) == 32);
  auto stats = Napi::Object::New(env);
  stats.Set("targets", double(written.stats.targets));
  stats.Set("bytes", double(written.stats.bytes));
  stats.Set("elapsedMs", written.stats.elapsed_ms);
  stats.Set("readMs", written.stats.read_ms);
  stats.Set("hashMs", written.stats.hash_ms);
  stats.Set("writeMs", written.stats.write_ms);
  stats.Set("syncMs", written.stats.sync_ms);
  auto result = Napi::Object::New(env);
  result.Set("digests", to_bytes(env, written.digests.data(), written.digests.size() * sizeof(Digest)));
  result.Set("stats", stats);
  return result;
}

}  // namespace

void WriteHandle::define(Napi::Env env) {
  binding::define<WriteHandle>(env, {method<WriteHandle, &WriteHandle::cancel>("cancel")});
}

Napi::Value WriteHandle::cancel(const Napi::CallbackInfo& info) {
  if (job_ != nullptr) job_->request_stop();  // else it could not start
  return info.Env().Undefined();
}

Napi::Value start_write(const Napi::CallbackInfo& info) {
  auto plan = to_write_plan(info[0]);
  const auto on_progress = optional_function(info[1], "onProgress");
  std::shared_ptr<WriteJob> job;
  const auto result = promise<Written>(
      info, to_written,
      [&](Done<Written> done, OperationId id) {
        job = WriteJob::start(std::move(plan), byte_progress(on_progress, id), std::move(done));
      },
      on_progress, property(object(info[0], "job"), "deviceBuffers"));  // buffers that nobody holds are freed
  if (job != nullptr) Environment::of(info.Env()).adopt(job);
  auto handle = make<WriteHandle>(info.Env(), job);
  handle.Set("result", result);
  return handle;
}

}  // namespace weightcast::binding
