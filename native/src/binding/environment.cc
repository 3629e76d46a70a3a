#include "binding/environment.h"

#include <algorithm>

namespace weightcast::binding {
namespace {

/// Threads that have not stopped by then are left behind; the addon is never unmapped.
constexpr double kShutDownMs = 2500;

Napi::Reference<Napi::Value> hold(Napi::Value value) {
  if (value.IsEmpty() || !value.IsObject()) return {};
  return Napi::Reference<Napi::Value>::New(value, 1);
}

void destroy_environment(Napi::Env, Environment* environment) { delete environment; }

}  // namespace

void Channel::post(Message message) {
  auto owned = std::make_unique<Message>(std::move(message));
  std::lock_guard lock(mutex_);
  if (!alive_) return;
  if (function_.NonBlockingCall(owned.get()) == napi_ok) {
    (void)owned.release();
  } else {
    alive_ = false;  // the environment is closing
  }
}

void Channel::deliver(Napi::Env env, Napi::Function, Environment* environment, Message* message) {
  const std::unique_ptr<Message> owned(message);
  if (env == nullptr) return;  // the environment has ended; what the message holds is freed
  (*owned)(env, *environment);
}

void Environment::create(Napi::Env env) {
  env.SetInstanceData<Environment, destroy_environment>(new Environment(env));
}

Environment& Environment::of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

Environment::Environment(Napi::Env env) : env_(env), channel_(std::make_shared<Channel>()) {
  channel_->function_ = Channel::Function::New(env, "weightcast", 0, 1, this);
  channel_->function_.Unref(env);
  channel_->alive_ = true;
  // Hooks run in reverse order: ours before the one that the function above has registered.
  napi_add_env_cleanup_hook(env, shut_down, this);
}

void Environment::shut_down(void* data) {
  auto& self = *static_cast<Environment*>(data);
  for (auto& weak : self.adopted_) {
    if (auto stoppable = weak.lock()) stoppable->request_stop();
  }
  const auto deadline = Deadline::after(kShutDownMs);
  for (auto& weak : self.adopted_) {
    if (auto stoppable = weak.lock()) stoppable->wait_stopped(deadline);
  }
  {
    std::lock_guard lock(self.channel_->mutex_);
    if (self.channel_->alive_) self.channel_->function_.Abort();
    self.channel_->alive_ = false;
  }
  Napi::HandleScope scope(self.env_);
  self.pending_.clear();
}

Environment::Operation Environment::begin(const Napi::CallbackInfo& info, Napi::Value progress,
                                          Napi::Value held) {
  const auto env = info.Env();
  const auto id = next_++;
  auto deferred = Napi::Promise::Deferred::New(env);
  Pending pending{deferred, {}, {hold(info.This()), hold(held)}};
  if (!progress.IsEmpty() && progress.IsFunction()) {
    pending.progress = Napi::Persistent(progress.As<Napi::Function>());
  }
  if (pending_.empty()) channel_->function_.Ref(env);
  pending_.emplace(id, std::move(pending));
  return {id, deferred.Promise()};
}

void Environment::report(Napi::Env env, OperationId id, const std::function<Napi::Value(Napi::Env)>& value) {
  const auto found = pending_.find(id);
  if (found == pending_.end() || found->second.progress.IsEmpty()) return;
  const auto function = found->second.progress.Value();
  function.Call({value(env)});
}

void Environment::settle(Napi::Env env, OperationId id, const std::function<Napi::Value(Napi::Env)>& value) {
  const auto found = pending_.find(id);
  if (found == pending_.end()) return;
  const auto pending = std::move(found->second);
  pending_.erase(found);
  if (pending_.empty()) channel_->function_.Unref(env);
  try {
    pending.deferred.Resolve(value(env));
  } catch (const Error& error) {
    pending.deferred.Reject(errors_.make(env, error));
  } catch (const Napi::Error& error) {
    pending.deferred.Reject(error.Value());
  }
}

void Environment::adopt(const std::shared_ptr<Stoppable>& stoppable) {
  std::erase_if(adopted_, [](const auto& weak) { return weak.expired(); });
  adopted_.push_back(stoppable);
}

}  // namespace weightcast::binding
