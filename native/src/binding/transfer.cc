#include "binding/transfer.h"

#include "binding/arguments.h"

namespace weightcast::binding {
namespace {

Napi::Value to_stats(Napi::Env env, const TransferStats& stats) {
  auto result = Napi::Object::New(env);
  result.Set("frames", double(stats.frames));
  result.Set("bytes", double(stats.bytes));
  result.Set("elapsedMs", stats.elapsed_ms);
  result.Set("readMs", stats.read_ms);
  result.Set("copyMs", stats.copy_ms);
  result.Set("broadcastMs", stats.broadcast_ms);
  return result;
}

Napi::Value to_progress(Napi::Env env, const TransferProgress& progress) {
  auto result = Napi::Object::New(env);
  result.Set("framesSent", double(progress.frames_sent));
  result.Set("bytesRead", double(progress.bytes_read));
  result.Set("bytesSent", double(progress.bytes_sent));
  return result;
}

}  // namespace

void TransferHandle::define(Napi::Env env) {
  binding::define<TransferHandle>(env,
                                  {
                                      getter<TransferHandle, &TransferHandle::frames_issued>("framesIssued"),
                                      async_method<TransferHandle, &TransferHandle::run>("run"),
                                      async_method<TransferHandle, &TransferHandle::close>("close"),
                                  });
}

TransferHandle::~TransferHandle() {
  communicator_->close_transfer(prepared_.id, [](Outcome<Unit>) {});
}

Napi::Value TransferHandle::frames_issued(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), double(prepared_.frames_issued->load()));
}

Napi::Value TransferHandle::run(const Napi::CallbackInfo& info) {
  const double timeout_ms = milliseconds(info[0], "timeoutMs");
  const auto on_progress = optional_function(info[1], "onProgress");
  // Held by the operation: a transfer or a communicator that nobody else holds is not collected while it
  // runs.
  return promise<TransferStats>(
      info,
      [communicator = communicator_](Napi::Env env, const TransferStats& stats) {
        return to_stats(env, stats);
      },
      [&](Done<TransferStats> done, OperationId id) {
        Transfer::Progress report;
        if (on_progress.IsFunction()) {
          report = [channel = Environment::of(info.Env()).channel(), id](const TransferProgress& progress) {
            channel->post([id, progress](Napi::Env env, Environment& environment) {
              environment.report(env, id, [&](Napi::Env) { return to_progress(env, progress); });
            });
          };
        }
        communicator_->run(prepared_.id, timeout_ms, std::move(report), std::move(done));
      },
      on_progress);
}

Napi::Value TransferHandle::close(const Napi::CallbackInfo& info) {
  return promise<Unit>(info, to_undefined, [&](Done<Unit> done, OperationId) {
    communicator_->close_transfer(prepared_.id, std::move(done));
  });
}

}  // namespace weightcast::binding
