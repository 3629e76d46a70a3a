// A job over files, as JavaScript sees it: { result: a promise, cancel() }.
#pragma once

#include <memory>
#include <utility>

#include "binding/arguments.h"
#include "binding/handle.h"
#include "binding/progress.h"
#include "core/file_job.h"

namespace weightcast::binding {

/// NativeJob of src/native.ts.
class FileJobHandle {
 public:
  static constexpr napi_type_tag kTag = {0x3c1f95a0d27e4b68, 0x91d40f7ae3628bc5};
  static constexpr const char* kName = "FileJob";
  static void define(Napi::Env env);

  explicit FileJobHandle(std::shared_ptr<Stoppable> job) : job_(std::move(job)) {}

 private:
  Napi::Value cancel(const Napi::CallbackInfo& info);

  std::shared_ptr<Stoppable> job_;
};

/// `begin(progress, done)` starts a FileJob<Result>; `convert(env, Result)` makes its value. The second
/// argument of the call is the progress function, or null. `held` lives as long as the job.
template <class Result, class Convert, class Begin>
Napi::Value start_file_job(const Napi::CallbackInfo& info, Convert convert, Begin begin,
                           Napi::Value held = {}) {
  const auto on_progress = optional_function(info[1], "onProgress");
  std::shared_ptr<Stoppable> job;
  const auto result = promise<Result>(
      info, std::move(convert),
      [&](Done<Result> done, OperationId id) {
        job = begin(byte_progress(on_progress, id), std::move(done));
      },
      on_progress, held);
  if (job != nullptr) Environment::of(info.Env()).adopt(job);
  auto handle = make<FileJobHandle>(info.Env(), job);
  handle.Set("result", result);
  return handle;
}

}  // namespace weightcast::binding
