#include "binding/progress.h"

namespace weightcast::binding {

std::function<void(std::uint64_t bytes)> byte_progress(Napi::Value on_progress, OperationId id) {
  if (!on_progress.IsFunction()) return {};
  return [channel = Environment::of(on_progress.Env()).channel(), id](std::uint64_t total) {
    channel->post([id, total](Napi::Env env, Environment& environment) {
      environment.report(env, id, [&](Napi::Env) { return Napi::Number::New(env, double(total)); });
    });
  };
}

}  // namespace weightcast::binding
