#include "core/crew.h"

#include <pthread.h>

#include <system_error>
#include <thread>

#include "core/error.h"

namespace weightcast {

void Crew::start(const char* name, std::function<void()> work) {
  auto count = count_;
  {
    std::lock_guard lock(count->mutex);
    ++count->running;
  }
  const auto ended = [&count] {
    std::lock_guard lock(count->mutex);
    --count->running;
  };
  try {
    std::thread([count, name = std::string(name), work = std::move(work)]() mutable {
      ::pthread_setname_np(::pthread_self(), name.c_str());
      work();
      work = nullptr;  // what it owns dies before it counts as ended
      std::lock_guard lock(count->mutex);
      --count->running;
      count->ended.notify_all();
    }).detach();
  } catch (const std::system_error& error) {
    ended();
    throw Error(code::kThreadRefused,
                std::string("the system gives this process no more threads: ") + error.what());
  } catch (...) {  // no memory for what it would hold
    ended();
    throw;
  }
}

bool Crew::wait(const Deadline& deadline) const {
  std::unique_lock lock(count_->mutex);
  return count_->ended.wait_until(lock, deadline.at(), [this] { return count_->running == 0; });
}

void Crew::wait() const {
  std::unique_lock lock(count_->mutex);
  count_->ended.wait(lock, [this] { return count_->running == 0; });
}

}  // namespace weightcast
