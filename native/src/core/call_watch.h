// What a thread is inside of, for another that watches it. A call of the driver, of NCCL or of a file system
// can hang for good and can't be cancelled: the watcher then gives the thread up, and the thread, should it
// ever come back, touches nothing any more.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace weightcast {

class CallWatch {
 public:
  /// Number of one call; 0 is none.
  using Turn = std::uint64_t;

  /// The watch of the calling thread; null when nobody watches it.
  static CallWatch*& of_this_thread() noexcept {
    thread_local CallWatch* watch = nullptr;
    return watch;
  }

  /// The call that the thread is inside of.
  Turn inside() const noexcept { return inside_.load(std::memory_order_acquire); }
  /// False when the call has returned meanwhile. Once true the thread never leaves the call.
  bool abandon(Turn turn) noexcept;
  /// "cuMemAlloc", "open of /nfs/model.safetensors"; of the last call, which must be abandoned or hang.
  std::string describe() const;
  /// The last call was one of the file system.
  bool about_a_file() const noexcept { return subject_.load(std::memory_order_relaxed) != nullptr; }

 private:
  friend class WatchedCall;
  static constexpr Turn kAbandoned = ~Turn{0};

  void enter(const char* name, const char* subject) noexcept;
  void leave() noexcept;

  std::atomic<Turn> inside_{0};
  std::atomic<const char*> name_{nullptr};
  std::atomic<const char*> subject_{nullptr};
  Turn last_ = 0;  // of the watched thread alone
};

/// Stands around one call. `name` and `subject` must live as long as the call; a subject is the file that it
/// is about.
class WatchedCall {
 public:
  explicit WatchedCall(const char* name, const char* subject = nullptr) noexcept
      : watch_(CallWatch::of_this_thread()) {
    if (watch_ != nullptr && watch_->inside() != 0) watch_ = nullptr;  // the outer call counts
    if (watch_ != nullptr) watch_->enter(name, subject);
  }
  ~WatchedCall() {
    if (watch_ != nullptr) watch_->leave();
  }
  WatchedCall(const WatchedCall&) = delete;
  WatchedCall& operator=(const WatchedCall&) = delete;

 private:
  CallWatch* watch_;
};

/// A function of a library, called under the eyes of whoever watches the thread.
template <class Signature>
class LibraryCall;
template <class... Arguments>
class LibraryCall<int(Arguments...)> {
 public:
  using Function = int (*)(Arguments...);

  explicit LibraryCall(const char* symbol) : symbol_(symbol) {}

  const char* symbol() const noexcept { return symbol_; }
  Function& function() noexcept { return function_; }

  int operator()(Arguments... arguments) const {
    const WatchedCall inside(symbol_);
    return function_(arguments...);
  }

 private:
  const char* symbol_;
  Function function_ = nullptr;
};

}  // namespace weightcast
