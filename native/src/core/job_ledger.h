// The jobs that somebody waits for. Each is settled once: by the thread that did it, or by whoever gave that
// thread up.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "core/deadline.h"
#include "core/error.h"

namespace weightcast {

/// Until when a job must be settled. A job that `ends` the thread interrupts, at its deadline, what runs
/// before it.
struct JobTerms {
  std::optional<Deadline> deadline;
  bool ends = false;
};

class JobLedger {
 public:
  using Id = std::uint64_t;
  using Fail = std::function<void(const Error&)>;

  Id add(const JobTerms& terms, Fail fail);
  /// True for the first who asks: he settles the job.
  bool take(Id id);
  /// Everybody's `fail`, for the caller to settle.
  std::vector<Fail> take_all();

  /// A job's deadline lies before `time`.
  bool overdue(Clock::time_point time) const;
  /// The deadline of a job that ends the thread has passed.
  bool ending_due() const;

  /// Sleeps for `slice`, and before that as long as there is no job. False when no more jobs come.
  bool watch(std::chrono::milliseconds slice);
  void close();

 private:
  struct Job {
    JobTerms terms;
    Fail fail;
  };

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Id, Job> jobs_;  // guarded by mutex_
  Id next_ = 1;             // guarded by mutex_
  bool sleeping_ = false;   // guarded by mutex_: the watcher waits for a job
  bool closed_ = false;     // guarded by mutex_
};

}  // namespace weightcast
