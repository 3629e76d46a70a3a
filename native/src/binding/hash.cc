#include "binding/hash.h"

#include "binding/file_job.h"
#include "binding/plan.h"
#include "binding/values.h"
#include "core/hash_job.h"

namespace weightcast::binding {

Napi::Value start_hash(const Napi::CallbackInfo& info) {
  auto plan = to_hash_plan(info[0]);
  return start_file_job<HashJob::Result>(info, to_digests, [&](auto progress, auto done) {
    return HashJob::begin(std::move(plan), std::move(progress), std::move(done));
  });
}

}  // namespace weightcast::binding
