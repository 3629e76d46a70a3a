#pragma once

#include <atomic>
#include <memory>

#include "binding/handle.h"
#include "core/communicator.h"

namespace weightcast::binding {

/// NativeTransfer of src/native.ts.
class TransferHandle {
 public:
  static constexpr napi_type_tag kTag = {0x1b7c90d34ea65f28, 0x83d2f6b10c9e4a57};
  static constexpr const char* kName = "Transfer";
  static void define(Napi::Env env);

  TransferHandle(std::shared_ptr<Communicator> communicator, Prepared prepared)
      : communicator_(std::move(communicator)), prepared_(std::move(prepared)) {}
  ~TransferHandle();

 private:
  Napi::Value frames_issued(const Napi::CallbackInfo& info);
  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::shared_ptr<Communicator> communicator_;
  Prepared prepared_;
};

}  // namespace weightcast::binding
