// Hands the units of the targets to threads: each keeps to a target of its own while there are enough, since
// the file system lets one thread write to a file at a time.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/target_file.h"
#include "core/write_plan.h"

namespace weightcast {

class WriteQueue {
 public:
  /// @throws Error(WC_NATIVE_ARGUMENT) when the plan contradicts itself. `plan` outlives the queue.
  explicit WriteQueue(const WritePlan& plan);

  struct Task {
    std::size_t target;
    WriteUnit unit;
    TargetFile* file;
  };

  /// The next unit, of target `mine` if it has one left; where none is open a target is created. Sets `mine`.
  /// @throws Error(WC_FILE_WRITE)
  std::optional<Task> take(std::size_t& mine);
  /// One unit is written; gives the file when it was the target's last.
  std::unique_ptr<TargetFile> finish(std::size_t target);
  /// No more than so many threads find work at a time.
  std::size_t most_threads() const;
  std::uint64_t bytes() const;
  /// Closes what is open. Nobody holds a task any more.
  void clear();

 private:
  struct Target {
    TargetExtent extent;
    std::unique_ptr<TargetFile> file;
    std::deque<WriteUnit> waiting;
    std::size_t unfinished = 0;
  };

  void open(std::size_t index);

  const WritePlan& plan_;
  std::mutex mutex_;
  std::vector<Target> targets_;  // guarded by mutex_, but for the extents
  std::size_t next_ = 0;         // guarded by mutex_: to be created
};

}  // namespace weightcast
