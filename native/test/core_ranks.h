// Ranks over the emulated libraries, in one process, and tests that each run with faults of their own: one process a
// test, since the emulator reads its faults once.
#pragma once

#include <spawn.h>
#include <sys/wait.h>

#include <cstdlib>
#include <future>
#include <iterator>
#include <string>
#include <string_view>

#include "core/communicator.h"
#include "core_check.h"

extern char** environ;

/// glibc frees the thread-local memory of a library that was opened late where ThreadSanitizer does not see it, and
/// libstdc++ counts the users of an exception's text where it does not.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_suppressions() {
  return "race:_dl_deallocate_tls\nrace:std::runtime_error::~runtime_error\n";
}

/// What a communicator leaves behind, on purpose, when NCCL does not let go of it.
extern "C" __attribute__((visibility("default"))) const char* __lsan_default_suppressions() {
  return "leak:make_unique<weightcast::Workbench\n";
}

namespace weightcast {

inline constexpr double kLong = 30'000;

inline std::shared_ptr<const Runtime> open(double call_limit_ms = kLong) {
  return Runtime::open({EMULATED_CUDA_LIBRARY, EMULATED_NCCL_LIBRARY}, call_limit_ms);
}

/// The outcome of an operation; fails the test when it has none in time.
template <class T, class Start>
Outcome<T> outcome(Start start) {
  auto promise = std::make_shared<std::promise<Outcome<T>>>();
  auto future = promise->get_future();
  start([promise](Outcome<T> value) { promise->set_value(std::move(value)); });
  CORE_CHECK(future.wait_for(std::chrono::seconds(60)) == std::future_status::ready);
  return future.get();
}

template <class T>
bool failed_with(const Outcome<T>& value, std::string_view error_code) {
  return value.index() == 1 && std::get<1>(value).is(error_code);
}

struct Rank {
  explicit Rank(const std::shared_ptr<const Runtime>& runtime)
      : thread(CommunicatorThread::start(runtime, 0)), communicator(thread) {}

  Outcome<Unit> init(const Membership& membership, double timeout_ms = kLong) {
    return outcome<Unit>(
        [&](Done<Unit> done) { communicator.init(membership, timeout_ms, std::move(done)); });
  }
  Outcome<BufferId> allocate(std::uint64_t bytes) {
    return outcome<BufferId>([&](Done<BufferId> done) { communicator.allocate(bytes, std::move(done)); });
  }
  Outcome<Unit> broadcast(BufferId buffer, std::uint64_t bytes, double timeout_ms) {
    return outcome<Unit>(
        [&](Done<Unit> done) { communicator.broadcast({buffer, 0, bytes, 0}, timeout_ms, std::move(done)); });
  }
  Outcome<Unit> write(BufferId buffer, const void* bytes, std::uint64_t length) {
    return outcome<Unit>(
        [&](Done<Unit> done) { communicator.write(buffer, 0, bytes, length, std::move(done)); });
  }
  Outcome<Prepared> prepare(Plan plan, double timeout_ms) {
    return outcome<Prepared>(
        [&](Done<Prepared> done) { communicator.prepare(std::move(plan), timeout_ms, std::move(done)); });
  }
  void destroy(double timeout_ms) {
    outcome<Unit>([&](Done<Unit> done) { communicator.destroy(timeout_ms, std::move(done)); });
  }
  void abort() {
    outcome<Unit>([&](Done<Unit> done) { communicator.abort(std::move(done)); });
  }

  std::shared_ptr<CommunicatorThread> thread;
  Communicator communicator;
};

struct Test {
  const char* faults;
  void (*run)();
};

/// The status of the program: it runs itself once for each test.
template <std::size_t Count>
int run_each(const Test (&tests)[Count], int count, char** arguments) {
  if (count == 2) {
    tests[std::atoi(arguments[1])].run();
    return 0;
  }
  int failures = 0;
  for (std::size_t i = 0; i < Count; ++i) {
    std::string self = "/proc/self/exe", index = std::to_string(i);
    char* command[] = {self.data(), index.data(), nullptr};
    setenv("WEIGHTCAST_EMULATOR_FAULTS", tests[i].faults, 1);
    pid_t child = 0;
    int status = 0;
    CORE_CHECK(posix_spawn(&child, self.c_str(), nullptr, nullptr, command, environ) == 0);
    CORE_CHECK(waitpid(child, &status, 0) == child);
    if (status == 0) continue;
    std::fprintf(stderr, "test %zu (%s) ended with status %d\n", i, tests[i].faults, status);
    ++failures;
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace weightcast
