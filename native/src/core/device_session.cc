#include "core/device_session.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace weightcast {
namespace {

constexpr std::size_t kBounceBytes = std::size_t(4) << 20;

}  // namespace

DeviceSession::DeviceSession(std::shared_ptr<const Runtime> runtime, int device, Interrupt& interrupt)
    : runtime_(std::move(runtime)), device_(device), interrupt_(interrupt) {
  runtime_->enter(device);
  copies_ = make_stream(cuda());
  collectives_ = make_stream(cuda());
  drained_ = make_event(cuda());
}

void DeviceSession::allocate_bounce() {
  if (bounce_[1].get() != nullptr) return;
  for (int i = 0; i < 2; ++i) {
    bounced_[i] = make_event(cuda());
    bounce_[i] = make_pinned_memory(cuda(), kBounceBytes);
  }
}

void DeviceSession::expect_open() const {
  if (interrupt_.stop) throw Error(code::kClosed, "the communicator was closed during a copy");
}

void DeviceSession::expect_running() const {
  expect_open();
  if (interrupt_.aborts > 0) throw Error(code::kNcclAborted, "the communicator was aborted");
}

void DeviceSession::expect_time(const char* error_code, const std::string& work) const {
  expect_running();
  if (!deadline_ || !deadline_->passed()) return;
  throw Error(error_code, work + " took longer than " + std::to_string(long(deadline_->budget_ms())) + " ms");
}

Error DeviceSession::stuck_copy(const Deadline& missed) const {
  return Error(code::kStuck, "a copy on device " + std::to_string(device_) + " did not end within " +
                                 std::to_string(long(missed.budget_ms())) + " ms");
}

void DeviceSession::wait(const Event& event) {
  // A copy waits for nobody: one that takes as long as a hung call means a broken device.
  const auto limit = Deadline::after(runtime_->call_limit_ms());
  const auto& deadline = deadline_ && deadline_->at() < limit.at() ? *deadline_ : limit;
  Backoff backoff;
  for (;;) {
    expect_running();
    if (is_done(cuda(), event)) return;
    if (deadline.passed()) throw stuck_copy(deadline);
    backoff.pause(interrupt_.bell);
  }
}

void DeviceSession::drain_copies() {
  cuda().check(cuda().event_record(drained_.get(), copies()), "cuEventRecord");
  wait(drained_);
}

void DeviceSession::read(DevicePointer source, std::size_t length,
                         const std::function<void(const void*, std::size_t)>& consume) {
  allocate_bounce();
  auto size = [length](std::size_t at) { return std::min(kBounceBytes, length - at); };
  auto begin = [&](std::size_t at, int side) {
    cuda().check(cuda().copy_to_host(bounce_[side].get(), source + at, size(at), copies()),
                 "cuMemcpyDtoHAsync");
    cuda().check(cuda().event_record(bounced_[side].get(), copies()), "cuEventRecord");
  };
  if (length > 0) begin(0, 0);
  int side = 0;
  for (std::size_t at = 0; at < length; at += kBounceBytes, side ^= 1) {
    wait(bounced_[side]);
    if (length - at > kBounceBytes) begin(at + kBounceBytes, side ^ 1);
    expect_open();  // the caller's memory may be gone with its environment
    consume(bounce_[side].get(), size(at));
  }
}

void DeviceSession::write(DevicePointer target, const void* source, std::size_t length) {
  allocate_bounce();
  int side = 0;
  for (std::size_t at = 0; at < length; at += kBounceBytes, side ^= 1) {
    const std::size_t size = std::min(kBounceBytes, length - at);
    wait(bounced_[side]);
    expect_open();
    std::memcpy(bounce_[side].get(), static_cast<const char*>(source) + at, size);
    cuda().check(cuda().copy_to_device(target + at, bounce_[side].get(), size, copies()),
                 "cuMemcpyHtoDAsync");
    cuda().check(cuda().event_record(bounced_[side].get(), copies()), "cuEventRecord");
  }
  drain_copies();
}

}  // namespace weightcast
