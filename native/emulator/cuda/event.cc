#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>

#include "common/faults.h"
#include "cuda/context.h"
#include "cuda/device.h"
#include "cuda/stream.h"

namespace emulator::cuda {

/** One recording: the place in a stream that an event stands for until it is recorded again. */
class Mark {
 public:
  void reach() {
    std::lock_guard lock(mutex_);
    reached_ = true;
    at_ = std::chrono::steady_clock::now();
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return reached_; });
  }
  bool reached() {
    std::lock_guard lock(mutex_);
    return reached_;
  }
  std::chrono::steady_clock::time_point at() {
    std::lock_guard lock(mutex_);
    return at_;
  }

 private:
  std::mutex mutex_;  // guards everything below
  std::condition_variable changed_;
  bool reached_ = false;
  std::chrono::steady_clock::time_point at_;
};

struct Event {
  bool timing;
  std::shared_ptr<Mark> latest;  // null before the first recording
};

namespace {

std::mutex& events_mutex = *new std::mutex;  // guards events and every Event::latest
std::map<CUevent, std::unique_ptr<Event>>& events = *new std::map<CUevent, std::unique_ptr<Event>>;

constexpr unsigned kDisableTiming = 2;

/** kInvalidHandle, or the event's latest mark (null when it was never recorded). */
CUresult latest_mark(CUevent event, std::shared_ptr<Mark>& mark, bool* timing = nullptr) {
  std::lock_guard lock(events_mutex);
  const auto found = events.find(event);
  if (found == events.end()) return kInvalidHandle;
  mark = found->second->latest;
  if (timing != nullptr) *timing = found->second->timing;
  return kSuccess;
}

}  // namespace
}  // namespace emulator::cuda

using namespace emulator::cuda;

EMULATED CUresult cuEventCreate(CUevent* event, unsigned flags) {
  if (const auto error = check_context()) return error;
  if (event == nullptr) return kInvalidValue;
  if ((flags & 4u) != 0) return kNotSupported;  // CU_EVENT_INTERPROCESS
  auto created = std::make_unique<Event>(Event{(flags & kDisableTiming) == 0, nullptr});
  *event = created.get();
  std::lock_guard lock(events_mutex);
  events.emplace(*event, std::move(created));
  return kSuccess;
}

EMULATED CUresult cuEventDestroy_v2(CUevent event) {
  std::lock_guard lock(events_mutex);
  return events.erase(event) == 1 ? kSuccess : kInvalidHandle;
}

EMULATED CUresult cuEventRecord(CUevent event, CUstream stream) {
  if (const auto error = check_context()) return error;
  auto mark = std::make_shared<Mark>();
  {
    std::lock_guard lock(events_mutex);
    const auto found = events.find(event);
    if (found == events.end()) return kInvalidHandle;
    if (!emulator::is_default_stream(stream) && find_stream(stream) == nullptr) return kInvalidHandle;
    found->second->latest = mark;
  }
  return submit(stream, [mark] { mark->reach(); });
}

EMULATED CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned) {
  return cuEventRecord(event, stream);
}

EMULATED CUresult cuEventQuery(CUevent event) {
  emulator::hang_if_told("cuEventQuery");
  std::shared_ptr<Mark> mark;
  if (const auto error = latest_mark(event, mark)) return error;
  return mark == nullptr || mark->reached() ? kSuccess : kNotReady;
}

EMULATED CUresult cuEventSynchronize(CUevent event) {
  std::shared_ptr<Mark> mark;
  if (const auto error = latest_mark(event, mark)) return error;
  if (mark != nullptr) mark->wait();
  return kSuccess;
}

EMULATED CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
  if (const auto error = check_context()) return error;
  std::shared_ptr<Mark> mark;
  if (const auto error = latest_mark(event, mark)) return error;
  if (mark == nullptr) return kSuccess;
  return submit(stream, [mark] { mark->wait(); });
}

EMULATED CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
  if (milliseconds == nullptr) return kInvalidValue;
  std::shared_ptr<Mark> from, to;
  bool from_timed = false, to_timed = false;
  if (const auto error = latest_mark(start, from, &from_timed)) return error;
  if (const auto error = latest_mark(end, to, &to_timed)) return error;
  if (!from_timed || !to_timed || from == nullptr || to == nullptr) return kInvalidHandle;
  if (!from->reached() || !to->reached()) return kNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(to->at() - from->at()).count();
  return kSuccess;
}

EMULATED CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
  return cuEventElapsedTime_v2(milliseconds, start, end);
}
