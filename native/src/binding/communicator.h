#pragma once

#include <memory>

#include "binding/handle.h"
#include "core/communicator.h"

namespace weightcast::binding {

/// NativeCommunicator of src/native.ts.
class CommunicatorHandle {
 public:
  static constexpr napi_type_tag kTag = {0xc46e1a95d70b3f82, 0x6f08b52e9d1c7a34};
  static constexpr const char* kName = "Communicator";
  static void define(Napi::Env env);

  explicit CommunicatorHandle(std::shared_ptr<Communicator> communicator)
      : communicator_(std::move(communicator)) {}

 private:
  Napi::Value state(const Napi::CallbackInfo& info);
  Napi::Value init(const Napi::CallbackInfo& info);
  Napi::Value all_reduce(const Napi::CallbackInfo& info);
  Napi::Value broadcast(const Napi::CallbackInfo& info);
  Napi::Value allocate(const Napi::CallbackInfo& info);
  Napi::Value open_ipc(const Napi::CallbackInfo& info);
  Napi::Value prepare(const Napi::CallbackInfo& info);
  Napi::Value async_error(const Napi::CallbackInfo& info);
  Napi::Value abort(const Napi::CallbackInfo& info);
  Napi::Value destroy(const Napi::CallbackInfo& info);

  std::shared_ptr<Communicator> communicator_;
};

}  // namespace weightcast::binding
