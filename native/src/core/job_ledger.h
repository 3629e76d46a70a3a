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

/// Until when a job must be settled.
struct JobTerms {
  std::optional<Deadline> deadline;
  /// It ends what others have begun: it runs also when nobody waits for it any more.
  bool always = false;
  /// It ends the thread: at its deadline it interrupts what runs before it.
  bool ends = false;
};

class JobLedger {
 public:
  using Id = std::uint64_t;
  using Fail = std::function<void(const Error&)>;

  Id add(const JobTerms& terms, Fail fail);
  /// It is the job's turn. False when it was settled before, and need not run.
  bool begin(Id id);
  /// True for the first who asks: he settles the job.
  bool take(Id id);
  /// Everybody's `fail`, for the caller to settle.
  std::vector<Fail> take_all();

  /// `fail` of each job whose deadline lies before `time` and whose turn has not come.
  std::vector<Fail> take_late(Clock::time_point time);

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
    bool begun = false;
  };

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Id, Job> jobs_;  // guarded by mutex_
  Id next_ = 1;             // guarded by mutex_
  bool sleeping_ = false;   // guarded by mutex_: the watcher waits for a job
  bool closed_ = false;     // guarded by mutex_
};

}  // namespace weightcast
