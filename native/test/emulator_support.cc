#include "emulator_support.h"

#include <dirent.h>
#include <dlfcn.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <thread>
#include <utility>

extern char** environ;

namespace emulator::test {
namespace {

std::map<std::string, void (*)()>& cases() {
  static std::map<std::string, void (*)()> all;
  return all;
}
std::map<std::string, void (*)(const Rank&)>& roles() {
  static std::map<std::string, void (*)(const Rank&)> all;
  return all;
}

std::string to_hex(const ncclUniqueId& id) {
  std::string text;
  for (const unsigned char byte : id.internal) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", byte);
    text += digits;
  }
  return text;
}

ncclUniqueId from_hex(const std::string& text) {
  ncclUniqueId id = {};
  for (std::size_t i = 0; i < sizeof id.internal; ++i) {
    id.internal[i] = static_cast<unsigned char>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  }
  return id;
}

void* open_library(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) fail_check(__FILE__, __LINE__, dlerror());
  return library;
}

std::size_t entries(const char* path) {
  std::size_t count = 0;
  DIR* folder = opendir(path);
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

int run_cases(const std::string& wanted) {
  for (const auto& [name, run] : cases()) {
    if (!wanted.empty() && name != wanted) continue;
    alarm(120);
    const Stopwatch watch;
    run();
    std::printf("ok %s (%.2f s)\n", name.c_str(), watch.seconds());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace

Case::Case(const char* name, void (*run)()) { cases()[name] = run; }
Role::Role(const char* name, void (*run)(const Rank&)) { roles()[name] = run; }

void fail_check(const char* file, int line, const std::string& what) {
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  std::fflush(nullptr);
  _exit(1);
}

Process::Process(const char* role, const Rank& rank, const std::vector<std::string>& environment) {
  std::string self = "/proc/self/exe", dash = "--role", name = role, id = to_hex(rank.id);
  std::string index = std::to_string(rank.rank), count = std::to_string(rank.ranks);
  char* arguments[] = {self.data(), dash.data(), name.data(), id.data(), index.data(), count.data(), nullptr};
  std::vector<std::string> added = environment;
  std::vector<char*> variables;
  for (auto& entry : added) variables.push_back(entry.data());
  for (char** entry = environ; *entry != nullptr; ++entry) variables.push_back(*entry);
  variables.push_back(nullptr);
  CHECK(posix_spawn(&pid_, self.c_str(), nullptr, nullptr, arguments, variables.data()) == 0);
}

Process::Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

Process::~Process() {
  if (pid_ < 0) return;
  kill();
  waitpid(pid_, nullptr, 0);
}

void Process::kill() { ::kill(pid_, SIGKILL); }

int Process::wait(std::chrono::milliseconds limit) {
  int status = 0;
  eventually("a rank ends", [&] { return waitpid(pid_, &status, WNOHANG) == pid_; }, limit);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void with_ranks(const char* role, int ranks, const std::function<void(const Rank&)>& root,
                const std::vector<std::string>& environment) {
  ncclUniqueId id = {};
  const auto get = reinterpret_cast<int (*)(ncclUniqueId*)>(symbol_of(nccl_library(), "ncclGetUniqueId"));
  CHECK_EQ(get(&id), 0);
  std::vector<Process> others;
  for (int rank = 1; rank < ranks; ++rank) others.emplace_back(role, Rank{id, rank, ranks}, environment);
  root(Rank{id, 0, ranks});
  for (auto& other : others) CHECK_EQ(other.wait(), 0);
}

void eventually(const char* what, const std::function<bool()>& condition, std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline)
      fail_check(__FILE__, __LINE__, std::string("never: ") + what);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

std::vector<unsigned char> pattern(std::size_t bytes, unsigned seed) {
  std::vector<unsigned char> values(bytes);
  unsigned state = seed * 2654435761u + 1;
  for (auto& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<unsigned char>(state >> 24);
  }
  return values;
}

std::size_t open_files() { return entries("/proc/self/fd"); }
std::size_t running_threads() { return entries("/proc/self/task"); }

void* cuda_library() {
  static void* library = open_library(EMULATED_CUDA_LIBRARY);
  return library;
}
void* nccl_library() {
  static void* library = open_library(EMULATED_NCCL_LIBRARY);
  return library;
}
void* symbol_of(void* library, const char* name) {
  void* found = dlsym(library, name);
  if (found == nullptr) fail_check(__FILE__, __LINE__, dlerror());
  return found;
}

}  // namespace emulator::test

int main(int count, char** arguments) {
  using namespace emulator::test;
  if (count == 6 && std::strcmp(arguments[1], "--role") == 0) {
    alarm(60);
    roles().at(arguments[2])(Rank{from_hex(arguments[3]), std::atoi(arguments[4]), std::atoi(arguments[5])});
    return 0;
  }
  return run_cases(count > 1 ? arguments[1] : "");
}
