#pragma once
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "cuda/abi.h"
#include "nccl/abi.h"

// The emulator's tests load the two libraries by path, as the addon does, and run ranks in processes of their
// own.

namespace emulator::test {

#define CHECK(condition)                                                            \
  do {                                                                              \
    if (!(condition)) ::emulator::test::fail_check(__FILE__, __LINE__, #condition); \
  } while (false)
#define CHECK_EQ(actual, expected) \
  ::emulator::test::check_equal(__FILE__, __LINE__, #actual, actual, expected)

[[noreturn]] void fail_check(const char* file, int line, const std::string& what);

template <typename A, typename B>
void check_equal(const char* file, int line, const char* text, const A& actual, const B& expected) {
  if (actual == static_cast<A>(expected)) return;
  fail_check(file, line,
             std::string(text) + " is " + std::to_string(actual) + ", not " + std::to_string(expected));
}

/** Registers a function under a name. A case is run by ctest; a role is what a spawned rank does. */
struct Case {
  Case(const char* name, void (*run)());
};

struct Rank {
  ncclUniqueId id;
  int rank;
  int ranks;
};

struct Role {
  Role(const char* name, void (*run)(const Rank&));
};

#define CASE(name)                                                          \
  static void case_##name();                                                \
  static const ::emulator::test::Case register_##name(#name, &case_##name); \
  static void case_##name()
#define ROLE(name)                                                               \
  static void role_##name(const ::emulator::test::Rank& me);                     \
  static const ::emulator::test::Role register_role_##name(#name, &role_##name); \
  static void role_##name([[maybe_unused]] const ::emulator::test::Rank& me)

/** A spawned copy of this program in a role; ended with SIGKILL when it is dropped before it was awaited. */
class Process {
 public:
  Process(const char* role, const Rank& rank, const std::vector<std::string>& environment = {});
  Process(Process&& other) noexcept;
  ~Process();
  /** Exit status, or 128 + signal. Fails the test after `limit`. */
  int wait(std::chrono::milliseconds limit = std::chrono::seconds(30));
  void kill();

 private:
  pid_t pid_;
};

/** Spawns ranks 1 … ranks-1 in `role` and checks at the end that each left with status 0. */
void with_ranks(const char* role, int ranks, const std::function<void(const Rank&)>& root,
                const std::vector<std::string>& environment = {});

/** Polls until true; fails the test after `limit`. */
void eventually(const char* what, const std::function<bool()>& condition,
                std::chrono::milliseconds limit = std::chrono::seconds(10));

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

std::vector<unsigned char> pattern(std::size_t bytes, unsigned seed);
std::size_t open_files();
std::size_t running_threads();

void* cuda_library();
void* nccl_library();
void* symbol_of(void* library, const char* name);

/** Calls through the library's own symbol: CUDA(cuInit)(0). */
#define CUDA(name, ...)                        \
  reinterpret_cast<CUresult (*)(__VA_ARGS__)>( \
      ::emulator::test::symbol_of(::emulator::test::cuda_library(), #name))

}  // namespace emulator::test
