#include "binding/file_job.h"

namespace weightcast::binding {

void FileJobHandle::define(Napi::Env env) {
  binding::define<FileJobHandle>(env, {method<FileJobHandle, &FileJobHandle::cancel>("cancel")});
}

Napi::Value FileJobHandle::cancel(const Napi::CallbackInfo& info) {
  if (job_ != nullptr) job_->request_stop();  // else it could not start
  return info.Env().Undefined();
}

}  // namespace weightcast::binding
