// What the addon keeps for one Node environment (the main thread, or a Worker): promises under way, the way
// back to its thread, and everything that must stop with it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "binding/errors.h"
#include "core/crew.h"
#include "core/outcome.h"
#include "core/stoppable.h"
#include "napi_config.h"

namespace weightcast::binding {

class Environment;

/// The way back to an environment's thread; from any thread, also after the environment is gone.
class Channel {
 public:
  /// Runs there; dropped when the environment has ended. Must own no JavaScript values: it may die on any
  /// thread.
  using Message = std::function<void(Napi::Env, Environment&)>;

  void post(Message message);

 private:
  friend class Environment;
  static void deliver(Napi::Env env, Napi::Function, Environment* environment, Message* message);
  using Function = Napi::TypedThreadSafeFunction<Environment, Message, deliver>;

  std::mutex mutex_;
  Function function_;   // guarded by mutex_
  bool alive_ = false;  // guarded by mutex_
};

using OperationId = std::uint64_t;

class Environment {
 public:
  static void create(Napi::Env env);
  static Environment& of(Napi::Env env);

  explicit Environment(Napi::Env env);
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  Errors& errors() { return errors_; }
  const std::shared_ptr<Channel>& channel() const { return channel_; }
  Crew& helpers() { return helpers_; }
  std::unordered_map<const void*, Napi::FunctionReference>& classes() { return classes_; }

  /// An operation under way: until settled it holds the event loop, the handle that it was called on, and
  /// `held` (what it reads meanwhile).
  struct Operation {
    OperationId id;
    Napi::Promise promise;
  };
  Operation begin(const Napi::CallbackInfo& info, Napi::Value progress, Napi::Value held);
  /// Calls the operation's progress function, if it is still under way.
  void report(Napi::Env env, OperationId id, const std::function<Napi::Value(Napi::Env)>& value);
  void settle(Napi::Env env, OperationId id, const std::function<Napi::Value(Napi::Env)>& value);

  /// A callback for the core: settles `id` with `convert(env, value)`.
  template <class T, class Convert>
  Done<T> settler(OperationId id, Convert convert) {
    return [channel = channel_, id, convert = std::move(convert)](Outcome<T> outcome) {
      auto shared = std::make_shared<Outcome<T>>(std::move(outcome));
      channel->post([id, shared, convert](Napi::Env env, Environment& environment) {
        environment.settle(env, id, [&](Napi::Env) -> Napi::Value {
          if (shared->index() == 1) throw std::get<1>(*shared);
          return convert(env, std::move(std::get<0>(*shared)));
        });
      });
    };
  }

  /// Stops with the environment.
  void adopt(const std::shared_ptr<Stoppable>& stoppable);

 private:
  struct Pending {
    Napi::Promise::Deferred deferred;
    Napi::FunctionReference progress;
    std::array<Napi::Reference<Napi::Value>, 2> held;
  };

  static void shut_down(void* environment);

  Napi::Env env_;
  Errors errors_;
  std::shared_ptr<Channel> channel_;
  Crew helpers_;
  std::unordered_map<const void*, Napi::FunctionReference> classes_;
  std::unordered_map<OperationId, Pending> pending_;
  std::vector<std::weak_ptr<Stoppable>> adopted_;
  OperationId next_ = 1;
};

/// Starts the operation that JavaScript calls: `start(Done<T>, OperationId)` begins it, `convert(env, T)`
/// makes its value. What `start` throws rejects the promise: an operation that never began is not under way.
template <class T, class Convert, class Start>
Napi::Value promise(const Napi::CallbackInfo& info, Convert convert, Start start, Napi::Value progress = {},
                    Napi::Value held = {}) {
  auto& environment = Environment::of(info.Env());
  const auto operation = environment.begin(info, progress, held);
  const auto done = environment.settler<T>(operation.id, std::move(convert));
  try {
    start(done, operation.id);
  } catch (...) {
    done(Outcome<T>(std::in_place_index<1>, current_error()));
  }
  return operation.promise;
}

/// Conversion of operations that have no value.
inline Napi::Value to_undefined(Napi::Env env, Unit) { return env.Undefined(); }

}  // namespace weightcast::binding
