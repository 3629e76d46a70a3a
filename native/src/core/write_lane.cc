#include "core/write_lane.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <new>
#include <optional>

#include "core/error.h"
#include "core/stopwatch.h"

namespace weightcast {
namespace {

constexpr std::size_t kPage = 4096;
/// The buffers of the two lanes of a thread fit into a core's second-level cache.
constexpr std::size_t kHostBytes = std::size_t(256) << 10;
/// A device is asked seldom: its thread copies while others hash and write.
constexpr std::size_t kDeviceBytes = std::size_t(4) << 20;
/// How often a lane that waits for a device looks whether it should stop.
constexpr std::chrono::milliseconds kLook{50};

std::shared_ptr<char> page_aligned(std::size_t length) {
  const auto alignment = std::align_val_t(kPage);
  return {static_cast<char*>(::operator new(length, alignment)),
          [alignment](char* memory) { ::operator delete(memory, alignment); }};
}

}  // namespace

WriteLane::WriteLane(WriteShared& shared)
    : shared_(shared),
      capacity_(shared.plan.devices.empty() ? kHostBytes : kDeviceBytes),
      buffer_(page_aligned(capacity_)) {}

void WriteLane::begin(const WriteUnit& unit, TargetFile& target) {
  target_ = &target;
  unit_ = unit;
  left_ = unit.length;
  at_ = handed_ = unit.offset;
  reading_ = hashing_ = {unit.range, unit.range_offset};
  filled_ = hashed_ = 0;
  if (shared_.plan.digest) finish_digests();
}

bool WriteLane::advance() {
  if (filled_ > 0) {
    const Stopwatch watch(shared_.write_ns);
    target_->write(buffer_.get(), filled_, at_);
    at_ += filled_;
    written_ += filled_;
    filled_ = hashed_ = 0;
    if (shared_.plan.sync) hand_over();
  }
  if (left_ == 0) {
    target_ = nullptr;
    return false;
  }
  fill();
  return true;
}

/// The disk works while the next bytes are read and hashed.
void WriteLane::hand_over() {
  if (left_ > 0 && at_ - handed_ < TargetFile::kWritebackBytes) return;
  target_->start_writeback(handed_, at_ - handed_);
  handed_ = at_;
}

std::uint64_t WriteLane::take_written() { return std::exchange(written_, 0); }

/// Up to a boundary of the target: all writes but the first and the last of a unit are whole, aligned pages.
void WriteLane::fill() {
  const Stopwatch watch(shared_.read_ns);
  const auto most = std::min<std::uint64_t>(left_, capacity_ - at_ % capacity_);
  while (filled_ < most) filled_ += read_some(std::size_t(most) - filled_);
  left_ -= filled_;
}

std::size_t WriteLane::read_some(std::size_t limit) {
  const Range& range = shared_.plan.ranges[reading_.range];
  const auto offset = range.offset + reading_.offset;
  auto length = std::size_t(std::min<std::uint64_t>(limit, range.length - reading_.offset));
  char* to = buffer_.get() + filled_;
  switch (range.kind) {
    case RangeKind::file:
      length = follow_file(limit);
      shared_.files[range.source].read(to, length, offset);
      break;
    case RangeKind::device:
      if (length > 0) read_device(range, offset, length);
      break;
    case RangeKind::host:
      std::memcpy(to, shared_.plan.host_bytes.data() + offset, length);
      break;
  }
  move_on(reading_, length);
  return length;
}

/// Tensors that follow each other in a file are one read.
std::size_t WriteLane::follow_file(std::size_t limit) const {
  const auto& ranges = shared_.plan.ranges;
  std::uint64_t length = ranges[reading_.range].length - reading_.offset;
  for (std::size_t i = reading_.range; length < limit && i + 1 < unit_.ranges_end; ++i) {
    const Range &one = ranges[i], &next = ranges[i + 1];
    const bool follows = next.kind == RangeKind::file && next.source == one.source &&
                         next.offset == one.offset + one.length;
    if (!follows) break;
    length += next.length;
  }
  return std::size_t(std::min<std::uint64_t>(limit, length));
}

void WriteLane::read_device(const Range& range, std::uint64_t offset, std::size_t length) {
  struct Desk {
    std::mutex mutex;
    std::condition_variable settled;
    std::optional<Outcome<Unit>> outcome;  // guarded by mutex
  };
  auto desk = std::make_shared<Desk>();
  const auto& device = shared_.plan.devices[range.source];
  device.communicator->read(device.buffer, offset, buffer_.get() + filled_, length,
                            [desk, keep = buffer_](Outcome<Unit> outcome) {
                              std::lock_guard lock(desk->mutex);
                              desk->outcome.emplace(std::move(outcome));
                              desk->settled.notify_all();
                            });
  std::unique_lock lock(desk->mutex);
  while (!desk->settled.wait_for(lock, kLook, [&] { return desk->outcome.has_value(); })) {
    if (shared_.stop) throw Error(code::kClosed, "the write was stopped");
  }
  if (desk->outcome->index() == 1) throw std::get<1>(*desk->outcome);
}

void WriteLane::move_on(Place& place, std::uint64_t length) const {
  const auto& ranges = shared_.plan.ranges;
  place.offset += length;
  while (place.range < unit_.ranges_end && place.offset >= ranges[place.range].length) {
    place.offset -= ranges[place.range++].length;
  }
}

std::size_t WriteLane::ready() const {
  if (!shared_.plan.digest || hashed_ == filled_) return 0;
  const auto rest = shared_.plan.ranges[hashing_.range].length - hashing_.offset;
  return std::size_t(std::min<std::uint64_t>(rest, filled_ - hashed_));
}

void WriteLane::hash(std::size_t length) {
  const Stopwatch watch(shared_.hash_ns);
  state_.update(buffer_.get() + hashed_, length);
  hashed(length);
}

void WriteLane::hash_both(WriteLane& a, WriteLane& b, std::size_t length) {
  const Stopwatch watch(a.shared_.hash_ns);
  Sha256::update_both(a.state_, a.buffer_.get() + a.hashed_, b.state_, b.buffer_.get() + b.hashed_, length);
  a.hashed(length);
  b.hashed(length);
}

void WriteLane::hashed(std::size_t length) {
  hashed_ += length;
  hashing_.offset += length;
  finish_digests();
}

/// Of the range that has ended, and of empty ones after it.
void WriteLane::finish_digests() {
  while (hashing_.range < unit_.ranges_end &&
         hashing_.offset == shared_.plan.ranges[hashing_.range].length) {
    shared_.digests[hashing_.range++] = state_.finish();
    state_ = Sha256();
    hashing_.offset = 0;
  }
}

}  // namespace weightcast
