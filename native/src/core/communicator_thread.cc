#include "core/communicator_thread.h"

#include <algorithm>

namespace weightcast {
namespace {

/// How long a thread that ends waits at most for an NCCL call that hangs, before it leaves everything behind.
constexpr double kEndLimitMs = 1000;

/// How often the watcher looks, and for how long a call lasts at least that a deadline may cut off.
constexpr std::chrono::milliseconds kLook{20};
constexpr double kShortestHangMs = 250;
/// A job ends by itself soon after its deadline; after this it is cut off. The law is one second.
constexpr std::chrono::milliseconds kGrace{600};
/// A job whose turn does not come is settled after the one that hangs before it was cut off, which knows why.
constexpr std::chrono::milliseconds kLate{850};

Error late_error() {
  return Error(code::kNcclTimeout,
               "the communicator was at work until the deadline with what it was asked before");
}

}  // namespace

std::shared_ptr<CommunicatorThread> CommunicatorThread::start(std::shared_ptr<const Runtime> runtime,
                                                              int device) {
  auto self = std::shared_ptr<CommunicatorThread>(new CommunicatorThread(std::move(runtime), device));
  self->crew_.start("wc-communicator", [self] { self->run(); });
  try {
    self->crew_.start("wc-watcher", [self] { self->watch(); });
  } catch (...) {
    self->request_stop();
    throw;
  }
  return self;
}

void CommunicatorThread::run() {
  CallWatch::of_this_thread() = &calls_;
  try {
    bench_ = std::make_unique<Workbench>(runtime_, device_, *interrupt_);
  } catch (...) {
    entry_error_ = current_error();
  }
  while (auto job = mailbox_.next()) {
    (*job)();
    job.reset();
    std::lock_guard lock(mutex_);
    failure_.reset();
  }
  const auto id = jobs_.add({}, [](const Error&) {});  // the watcher's eyes stay on it
  dismantle(Deadline::after(kEndLimitMs));
  jobs_.take(id);
  jobs_.close();
}

Workbench& CommunicatorThread::open_bench(const JobTerms& terms) {
  if (entry_error_) throw *entry_error_;
  if (!bench_ || (interrupt_->stop && !terms.ends)) throw closed_error();
  bench_->session.begin(terms.deadline);
  return *bench_;
}

void CommunicatorThread::request_abort() noexcept {
  ++interrupt_->aborts;
  interrupt_->bell.ring();
}

void CommunicatorThread::request_stop() noexcept {
  interrupt_->stop = true;
  interrupt_->bell.ring();
  mailbox_.close();
}

bool CommunicatorThread::wait_stopped(const Deadline& deadline) noexcept {
  for (;;) {
    if (crew_.wait(Deadline::after(kLook.count()))) return true;
    std::lock_guard lock(mutex_);
    if (stuck_ || deadline.passed()) return false;
  }
}

void CommunicatorThread::finish(const Deadline& deadline) {
  dismantle(deadline);
  mailbox_.close();
}

void CommunicatorThread::dismantle(const Deadline& deadline) {
  state_ = State::closed;
  if (!bench_) return;
  bench_->group.abort();
  const auto most = Deadline::after(kEndLimitMs);
  if (bench_->group.ended(deadline.at() < most.at() ? deadline : most)) {
    bench_.reset();
  } else {
    (void)bench_.release();  // freeing would wait for the same device that NCCL waits for
  }
}

void CommunicatorThread::note_failure(const Error& error) {
  std::lock_guard lock(mutex_);
  failure_ = error;
}

void CommunicatorThread::watch() {
  CallWatch::Turn seen = 0;
  auto since = Clock::now();
  while (jobs_.watch(kLook)) {
    if (jobs_.ending_due() && !interrupt_->stop) request_stop();
    const auto now = Clock::now();
    const auto inside = calls_.inside();
    if (inside != seen) {
      seen = inside;
      since = now;
    }
    const double elapsed_ms = milliseconds_since(since);
    const bool hangs = elapsed_ms > runtime_->call_limit_ms() ||
                       (elapsed_ms > kShortestHangMs && jobs_.overdue(now - kGrace));
    if (inside != 0 && hangs && calls_.abandon(inside)) return give_up(elapsed_ms);
    for (const auto& fail : jobs_.take_late(now - kLate)) fail(late_error());
  }
}

void CommunicatorThread::give_up(double elapsed_ms) {
  const auto call = calls_.describe();
  const auto where = "device " + std::to_string(device_);
  std::string message = call + " has not returned for " + std::to_string(long(elapsed_ms)) + " ms on " +
                        where +
                        "; the thread that called it, its communicator and its memory were left behind";
  Details details{{"call", call}, {"device", double(device_)}, {"elapsedMs", elapsed_ms}};
  const char* error_code = calls_.about_a_file() ? code::kFileRead : code::kStuck;
  std::vector<JobLedger::Fail> waiting;
  {
    std::lock_guard lock(mutex_);
    if (failure_) {  // the operation had failed before
      error_code = failure_->code();
      message = std::string(failure_->what()) + "; then " + message;
      details.insert(failure_->details().begin(), failure_->details().end());
    }
    stuck_.emplace(error_code, message, details);
    // Under the lock: whoever is refused from now on is told why.
    mailbox_.close();
    waiting = jobs_.take_all();
  }
  if (state_ != State::closed) state_ = State::failed;
  for (const auto& fail : waiting) fail(refusal());
}

Error CommunicatorThread::refusal() const {
  std::lock_guard lock(mutex_);
  return stuck_ ? *stuck_ : closed_error();
}

}  // namespace weightcast
