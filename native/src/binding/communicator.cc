#include "binding/communicator.h"

#include <cstring>

#include "binding/arguments.h"
#include "binding/device_buffer.h"
#include "binding/plan.h"
#include "binding/transfer.h"

namespace weightcast::binding {
namespace {

using Self = CommunicatorHandle;
constexpr std::uint64_t kMostRanks = 1u << 20;

const char* name_of(State state) {
  switch (state) {
    case State::idle:
      return "idle";
    case State::initializing:
      return "initializing";
    case State::ready:
      return "ready";
    case State::failed:
      return "failed";
    case State::aborted:
      return "aborted";
    case State::closed:
      return "closed";
  }
  return "closed";
}

}  // namespace

void CommunicatorHandle::define(Napi::Env env) {
  binding::define<Self>(env, {
                                 getter<Self, &Self::state>("state"),
                                 async_method<Self, &Self::init>("init"),
                                 async_method<Self, &Self::all_reduce>("allReduce"),
                                 async_method<Self, &Self::broadcast>("broadcast"),
                                 async_method<Self, &Self::allocate>("allocate"),
                                 async_method<Self, &Self::open_ipc>("openIpc"),
                                 async_method<Self, &Self::prepare>("prepare"),
                                 async_method<Self, &Self::async_error>("asyncError"),
                                 async_method<Self, &Self::abort>("abort"),
                                 async_method<Self, &Self::destroy>("destroy"),
                             });
}

Napi::Value CommunicatorHandle::state(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), name_of(communicator_->state()));
}

Napi::Value CommunicatorHandle::init(const Napi::CallbackInfo& info) {
  const auto options = object(info[0], "options");
  const auto id = bytes(property(options, "uniqueId"), "uniqueId");
  if (id.size() != sizeof(NcclUniqueId)) refuse("uniqueId", "128 bytes");
  Membership membership{};
  std::memcpy(&membership.unique_id, id.data(), id.size());
  membership.world_size = int(integer(options, "worldSize", kMostRanks));
  membership.rank = int(integer(options, "rank", kMostRanks));
  if (membership.rank >= membership.world_size) refuse("rank", "below worldSize");
  const double timeout_ms = milliseconds(property(options, "timeoutMs"), "timeoutMs");
  return promise<Unit>(info, to_undefined, [&](Done<Unit> done, OperationId) {
    communicator_->init(membership, timeout_ms, std::move(done));
  });
}

Napi::Value CommunicatorHandle::all_reduce(const Napi::CallbackInfo& info) {
  const auto values = floats(info[0], "values");
  const double timeout_ms = milliseconds(info[1], "timeoutMs");
  auto convert = [](Napi::Env env, std::vector<float> sums) {
    auto result = Napi::Float32Array::New(env, sums.size());
    std::copy(sums.begin(), sums.end(), result.Data());
    return result;
  };
  return promise<std::vector<float>>(info, convert, [&](Done<std::vector<float>> done, OperationId) {
    communicator_->all_reduce({values.begin(), values.end()}, timeout_ms, std::move(done));
  });
}

Napi::Value CommunicatorHandle::broadcast(const Napi::CallbackInfo& info) {
  const auto options = object(info[0], "options");
  const auto handle = property(options, "buffer");
  const auto& buffer = unwrap<DeviceBuffer>(handle);
  if (buffer.communicator() != communicator_) refuse("buffer", "a buffer of this communicator");
  const BroadcastRequest request{buffer.id(), integer(options, "offset"), integer(options, "byteLength"),
                                 int(integer(options, "root", kMostRanks))};
  const double timeout_ms = milliseconds(property(options, "timeoutMs"), "timeoutMs");
  return promise<Unit>(
      info, to_undefined,
      [&](Done<Unit> done, OperationId) { communicator_->broadcast(request, timeout_ms, std::move(done)); },
      {}, handle);
}

Napi::Value CommunicatorHandle::allocate(const Napi::CallbackInfo& info) {
  const auto length = integer(info[0], "byteLength");
  return promise<BufferId>(
      info,
      [communicator = communicator_, length](Napi::Env env, BufferId id) {
        return make<DeviceBuffer>(env, communicator, id, length);
      },
      [&](Done<BufferId> done, OperationId) { communicator_->allocate(length, std::move(done)); });
}

Napi::Value CommunicatorHandle::open_ipc(const Napi::CallbackInfo& info) {
  const auto name = bytes(info[0], "handle");
  CudaIpcHandle handle{};
  if (name.size() != sizeof handle.bytes) refuse("handle", "the 64 bytes of a cudaIpcMemHandle_t");
  std::memcpy(handle.bytes, name.data(), name.size());
  const auto length = integer(info[1], "byteLength");
  return promise<BufferId>(
      info,
      [communicator = communicator_, length](Napi::Env env, BufferId id) {
        return make<DeviceBuffer>(env, communicator, id, length);
      },
      [&](Done<BufferId> done, OperationId) { communicator_->open(handle, length, std::move(done)); });
}

Napi::Value CommunicatorHandle::prepare(const Napi::CallbackInfo& info) {
  auto plan = to_plan(info[0], communicator_);
  const double timeout_ms = milliseconds(info[1], "timeoutMs");
  return promise<Prepared>(
      info,
      [communicator = communicator_](Napi::Env env, Prepared prepared) {
        return make<TransferHandle>(env, communicator, std::move(prepared));
      },
      [&](Done<Prepared> done, OperationId) {
        communicator_->prepare(std::move(plan), timeout_ms, std::move(done));
      });
}

Napi::Value CommunicatorHandle::async_error(const Napi::CallbackInfo& info) {
  const auto timeout_ms = optional_milliseconds(info[0], "timeoutMs");
  return promise<int>(
      info, [](Napi::Env env, int result) { return Napi::Number::New(env, result); },
      [&](Done<int> done, OperationId) { communicator_->async_error(timeout_ms, std::move(done)); });
}

Napi::Value CommunicatorHandle::abort(const Napi::CallbackInfo& info) {
  return promise<Unit>(info, to_undefined,
                       [&](Done<Unit> done, OperationId) { communicator_->abort(std::move(done)); });
}

Napi::Value CommunicatorHandle::destroy(const Napi::CallbackInfo& info) {
  const double timeout_ms = milliseconds(info[0], "timeoutMs");
  return promise<Unit>(info, to_undefined, [&](Done<Unit> done, OperationId) {
    communicator_->destroy(timeout_ms, std::move(done));
  });
}

}  // namespace weightcast::binding
