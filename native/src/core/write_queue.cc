#include "core/write_queue.h"

#include <algorithm>

namespace weightcast {

WriteQueue::WriteQueue(const WritePlan& plan) : plan_(plan) {
  for (const auto& extent : target_extents(plan)) {
    targets_.emplace_back();
    targets_.back().extent = extent;
  }
}

std::optional<WriteQueue::Task> WriteQueue::take(std::size_t& mine) {
  std::lock_guard lock(mutex_);
  if (mine >= targets_.size() || targets_[mine].waiting.empty()) {
    if (next_ < targets_.size()) {
      mine = next_++;
      open(mine);
    } else {
      const auto most = std::max_element(targets_.begin(), targets_.end(), [](const auto& a, const auto& b) {
        return a.waiting.size() < b.waiting.size();
      });
      if (most == targets_.end() || most->waiting.empty()) return std::nullopt;
      mine = std::size_t(most - targets_.begin());
    }
  }
  auto& target = targets_[mine];
  const Task task{mine, target.waiting.front(), target.file.get()};
  target.waiting.pop_front();
  return task;
}

void WriteQueue::open(std::size_t index) {
  auto& target = targets_[index];
  target.file = std::make_unique<TargetFile>(plan_.targets[index]);
  const bool in_order = !target.file->preallocate(target.extent.size);
  const auto units = cut_target(plan_, target.extent, in_order);
  target.waiting.assign(units.begin(), units.end());
  target.unfinished = units.size();
}

std::unique_ptr<TargetFile> WriteQueue::finish(std::size_t index) {
  std::lock_guard lock(mutex_);
  auto& target = targets_[index];
  return --target.unfinished == 0 ? std::move(target.file) : nullptr;
}

std::size_t WriteQueue::most_threads() const {
  std::size_t threads = 0;
  for (const auto& target : targets_) threads += 1 + std::size_t(target.extent.size >> 23);
  return threads;
}

std::uint64_t WriteQueue::bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& target : targets_) bytes += target.extent.size;
  return bytes;
}

void WriteQueue::clear() {
  std::lock_guard lock(mutex_);
  targets_.clear();
}

}  // namespace weightcast
