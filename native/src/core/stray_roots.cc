#include "core/stray_roots.h"

#include <filesystem>
#include <system_error>

#include "core/error.h"

namespace weightcast {

StrayRoots& StrayRoots::of_process() {
  static auto& roots = *new StrayRoots;
  return roots;
}

std::set<std::string> StrayRoots::threads() {
  std::set<std::string> ids;
  std::error_code none;  // no /proc: nothing is counted
  for (std::filesystem::directory_iterator entry("/proc/self/task", none), end; !none && entry != end;
       entry.increment(none)) {
    ids.insert(entry->path().filename());
  }
  return ids;
}

void StrayRoots::expect_room() {
  if (roots_.size() < kMost) return;
  const auto living = threads();
  std::erase_if(roots_, [&](const auto& root) { return !living.contains(root); });
  if (roots_.size() < kMost) return;
  throw Error(code::kLimit,
              std::to_string(roots_.size()) +
                  " communicators of this process were given up before all ranks had joined, and each has "
                  "left a thread "
                  "and three sockets behind in NCCL; the limit is " +
                  std::to_string(kMost),
              {{"strayRoots", double(roots_.size())}, {"limit", double(kMost)}});
}

}  // namespace weightcast
