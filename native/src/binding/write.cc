#include "binding/write.h"

#include "binding/file_job.h"
#include "binding/plan.h"
#include "binding/values.h"
#include "core/write_job.h"

namespace weightcast::binding {
namespace {

Napi::Value to_written(Napi::Env env, const Written& written) {
  auto stats = Napi::Object::New(env);
  stats.Set("targets", double(written.stats.targets));
  stats.Set("bytes", double(written.stats.bytes));
  stats.Set("elapsedMs", written.stats.elapsed_ms);
  stats.Set("readMs", written.stats.read_ms);
  stats.Set("hashMs", written.stats.hash_ms);
  stats.Set("writeMs", written.stats.write_ms);
  stats.Set("syncMs", written.stats.sync_ms);
  auto result = Napi::Object::New(env);
  result.Set("digests", to_digests(env, written.digests));
  result.Set("stats", stats);
  return result;
}

}  // namespace

Napi::Value start_write(const Napi::CallbackInfo& info) {
  auto plan = to_write_plan(info[0]);
  const auto buffers = property(object(info[0], "job"), "deviceBuffers");  // what nobody holds is freed
  return start_file_job<Written>(
      info, to_written,
      [&](auto progress, auto done) {
        return WriteJob::begin(std::move(plan), std::move(progress), std::move(done));
      },
      buffers);
}

}  // namespace weightcast::binding
