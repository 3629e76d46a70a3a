#include "nccl/communicator.h"

#include <atomic>

#include "common/faults.h"
#include "common/stream.h"
#include "nccl/log.h"

namespace emulator::nccl {
namespace {

std::atomic<std::uint64_t> broadcasts_done{0};

}  // namespace

struct Communicator::Ticket {
  std::shared_ptr<Communicator> communicator;
  Operation operation;
  std::uint64_t turn;
};

ncclResult_t Communicator::start() {
  {
    std::lock_guard lock(mutex_);
    joining_ = true;
    if (!blocking_) {
      state_ = kInProgress;
      background_ = std::make_shared<Worker>();
    }
  }
  if (blocking_) return join_now();
  background_->post([self = shared_from_this()] { self->join_now(); });
  return kInProgress;
}

ncclResult_t Communicator::join_now() {
  const auto result = join(invitation_, stop_, transport_);
  std::lock_guard lock(mutex_);
  joining_ = false;
  state_ = result;
  if (left_ && transport_ != nullptr) transport_->leave();
  changed_.notify_all();
  return result;
}

ncclResult_t Communicator::ready(const char* caller) {
  std::lock_guard lock(mutex_);
  // A blocking communicator reports nothing while its init blocks, but can't be used either.
  if (state_ == kInProgress || joining_) {
    return fail(kInvalidArgument,
                "%s : Attempt to use communicator before the previous operation returned ncclSuccess",
                caller);
  }
  return state_;
}

void Communicator::set_state(ncclResult_t state) {
  std::lock_guard lock(mutex_);
  state_ = state;
}

bool Communicator::has_left() {
  std::lock_guard lock(mutex_);
  return left_;
}

ncclResult_t Communicator::state() {
  std::lock_guard lock(mutex_);
  return state_;
}

ncclResult_t Communicator::launch(std::vector<Launch> launches) {
  if (blocking_) return launch_now(std::move(launches));
  {
    std::lock_guard lock(mutex_);
    state_ = kInProgress;
    ++launching_;
  }
  background_->post([self = shared_from_this(), launches = std::move(launches)]() mutable {
    const auto result = self->has_left() ? kInternalError : self->launch_now(std::move(launches));
    std::lock_guard lock(self->mutex_);
    if (self->state_ == kInProgress) self->state_ = result;
    --self->launching_;
    self->changed_.notify_all();
  });
  return kInProgress;
}

ncclResult_t Communicator::launch_now(std::vector<Launch> launches) {
  for (auto& [operation, stream] : launches) {
    std::uint64_t turn = 0;
    {
      std::lock_guard lock(mutex_);
      turn = next_turn_++;
      if (operation.kind != Kind::messages) operation.number = ++operations_;
    }
    if (is_default_stream(stream)) {
      if (const auto result = run(operation, turn, false); result != kSuccess) return result;
      continue;
    }
    auto* handle = static_cast<StreamHandle*>(stream);
    auto ticket = std::make_unique<Ticket>(Ticket{shared_from_this(), std::move(operation), turn});
    if (handle->magic != kStreamMagic || !handle->enqueue(handle, &run_ticket, ticket.get())) {
      std::lock_guard lock(mutex_);
      state_ = kUnhandledCudaError;
      return fail(kUnhandledCudaError,
                  "Cuda failure 'invalid resource handle': not a stream of the emulated libcuda");
    }
    // From here the stream owns it.
    static_cast<void>(ticket.release());
  }
  return kSuccess;
}

void Communicator::run_ticket(void* argument) {
  const std::unique_ptr<Ticket> ticket(static_cast<Ticket*>(argument));
  ticket->communicator->run(ticket->operation, ticket->turn, true);
}

ncclResult_t Communicator::run_inline(Operation operation) {
  return launch_now({Launch{std::move(operation), nullptr}});
}

ncclResult_t Communicator::run(Operation& operation, std::uint64_t turn, bool parks) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return serving_ == turn || left_; });
    if (left_) return kInternalError;
    ++busy_;
  }
  const auto outcome = execute(operation, *transport_);
  const bool failed_late = outcome == Outcome::done && operation.kind == Kind::broadcast &&
                           faults().async_error != 0 && ++broadcasts_done == faults().async_error;
  ncclResult_t result = kSuccess;
  if (outcome == Outcome::peer_gone || failed_late) {
    result = fail(kRemoteError, "Connection closed by remote peer");
  } else if (outcome == Outcome::stopped) {
    result = kInternalError;
  }
  {
    std::lock_guard lock(mutex_);
    if (result == kRemoteError) state_ = result;
    if (parks && outcome == Outcome::peer_gone) --busy_;
  }
  if (parks && outcome == Outcome::peer_gone) {
    // The real kernel spins on until somebody aborts.
    stop_.wait();
    return result;
  }
  std::lock_guard lock(mutex_);
  --busy_;
  ++serving_;
  changed_.notify_all();
  return result;
}

ncclResult_t Communicator::finalize() {
  const auto settle = [self = shared_from_this()] {
    self->wait_until_idle();
    std::lock_guard lock(self->mutex_);
    if (self->state_ == kInProgress) self->state_ = kSuccess;
  };
  if (blocking_) {
    settle();
    return kSuccess;
  }
  set_state(kInProgress);
  background_->post(settle);
  return kInProgress;
}

void Communicator::wait_until_idle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return serving_ == next_turn_ || left_; });
}

ncclResult_t Communicator::destroy() {
  if (const auto error = ready("CommDestroy")) return error;
  wait_until_idle();
  {
    std::lock_guard lock(mutex_);
    if (left_) return kSuccess;
    left_ = true;
    if (background_ != nullptr) background_->close();
  }
  transport_->leave();
  return kSuccess;
}

void Communicator::abort() {
  stop_.set();
  std::unique_lock lock(mutex_);
  left_ = true;
  changed_.notify_all();
  if (background_ != nullptr) background_->close();
  if (!joining_ && transport_ != nullptr) transport_->wake();
  // Who has aborted may destroy the streams: nothing is launched on them any more.
  changed_.wait(lock, [&] { return !joining_ && launching_ == 0 && busy_ == 0; });
  if (transport_ != nullptr) transport_->leave();
}

}  // namespace emulator::nccl
