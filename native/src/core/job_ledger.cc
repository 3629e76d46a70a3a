#include "core/job_ledger.h"

#include <algorithm>

namespace weightcast {

JobLedger::Id JobLedger::add(const JobTerms& terms, Fail fail) {
  std::lock_guard lock(mutex_);
  const Id id = next_++;
  jobs_.emplace(id, Job{.terms = terms, .fail = std::move(fail)});
  if (sleeping_) changed_.notify_all();
  return id;
}

bool JobLedger::begin(Id id) {
  std::lock_guard lock(mutex_);
  const auto found = jobs_.find(id);
  return found != jobs_.end() && (found->second.begun = true);
}

bool JobLedger::take(Id id) {
  Fail dropped;  // outlives the lock: what it holds may call back
  std::lock_guard lock(mutex_);
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return false;
  dropped = std::move(found->second.fail);
  jobs_.erase(found);
  return true;
}

std::vector<JobLedger::Fail> JobLedger::take_all() {
  std::lock_guard lock(mutex_);
  std::vector<Fail> all;
  for (auto& [id, job] : jobs_) all.push_back(std::move(job.fail));
  jobs_.clear();
  return all;
}

std::vector<JobLedger::Fail> JobLedger::take_late(Clock::time_point time) {
  std::lock_guard lock(mutex_);
  std::vector<Fail> late;
  std::erase_if(jobs_, [&](auto& entry) {
    auto& job = entry.second;
    if (job.begun || !job.terms.deadline || job.terms.deadline->at() >= time) return false;
    late.push_back(std::move(job.fail));
    return true;
  });
  return late;
}

bool JobLedger::overdue(Clock::time_point time) const {
  std::lock_guard lock(mutex_);
  return std::any_of(jobs_.begin(), jobs_.end(), [time](const auto& entry) {
    const auto& deadline = entry.second.terms.deadline;
    return deadline && deadline->at() < time;
  });
}

bool JobLedger::ending_due() const {
  std::lock_guard lock(mutex_);
  return std::any_of(jobs_.begin(), jobs_.end(), [](const auto& entry) {
    const auto& terms = entry.second.terms;
    return terms.ends && terms.deadline && terms.deadline->passed();
  });
}

bool JobLedger::watch(std::chrono::milliseconds slice) {
  std::unique_lock lock(mutex_);
  if (!closed_ && jobs_.empty()) {
    sleeping_ = true;
    changed_.wait(lock, [this] { return closed_ || !jobs_.empty(); });
    sleeping_ = false;
  }
  changed_.wait_for(lock, slice, [this] { return closed_; });
  return !closed_;
}

void JobLedger::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

}  // namespace weightcast
