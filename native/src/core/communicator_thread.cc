#include "core/communicator_thread.h"

namespace weightcast {
namespace {

/// How long a thread that ends waits for an NCCL call that hangs, before it leaves everything behind.
constexpr double kEndLimitMs = 1000;

}  // namespace

std::shared_ptr<CommunicatorThread> CommunicatorThread::start(std::shared_ptr<const Runtime> runtime,
                                                              int device) {
  auto self = std::shared_ptr<CommunicatorThread>(new CommunicatorThread);
  self->crew_.start("wc-communicator", [self, runtime = std::move(runtime), device]() mutable {
    self->run(std::move(runtime), device);
  });
  return self;
}

void CommunicatorThread::run(std::shared_ptr<const Runtime> runtime, int device) {
  try {
    bench_ = std::make_unique<Workbench>(std::move(runtime), device, *interrupt_);
  } catch (...) {
    entry_error_ = current_error();
  }
  while (auto job = mailbox_.next()) (*job)();
  dismantle();
}

Workbench& CommunicatorThread::open_bench() {
  if (entry_error_) throw *entry_error_;
  if (!bench_ || interrupt_->stop) throw closed_error();
  return *bench_;
}

void CommunicatorThread::request_abort() noexcept {
  interrupt_->abort = true;
  interrupt_->bell.ring();
}

void CommunicatorThread::request_stop() noexcept {
  interrupt_->stop = true;
  interrupt_->bell.ring();
  mailbox_.close();
}

void CommunicatorThread::finish() {
  dismantle();
  mailbox_.close();
}

void CommunicatorThread::dismantle() {
  state_ = State::closed;
  if (!bench_) return;
  bench_->group.abort();
  if (bench_->group.ended(Deadline::after(kEndLimitMs))) {
    bench_.reset();
  } else {
    (void)bench_.release();  // freeing would wait for the same device that NCCL waits for
  }
}

}  // namespace weightcast
