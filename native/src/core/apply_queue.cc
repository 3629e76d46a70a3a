#include "core/apply_queue.h"

#include <algorithm>
#include <numeric>

namespace weightcast {

ApplyQueue::ApplyQueue(const std::vector<Tensor>& tensors, std::size_t targets)
    : tensors_(tensors), targets_(targets) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return tensors[a].length < tensors[b].length; });
  for (const auto i : order) {
    auto& target = targets_[tensors[i].target];
    target.waiting.push_back(i);
    target.left += tensors[i].length;
  }
}

std::optional<std::size_t> ApplyQueue::take(std::size_t& mine) {
  std::lock_guard lock(mutex_);
  if (mine >= targets_.size() || targets_[mine].waiting.empty()) {
    if (mine < targets_.size()) --targets_[mine].threads;
    // A file where nobody is before one that is shared, then the one with most left to do.
    const auto more = [](const Target& a, const Target& b) {
      if (a.waiting.empty() || b.waiting.empty()) return a.waiting.size() < b.waiting.size();
      return a.threads != b.threads ? a.threads > b.threads : a.left < b.left;
    };
    const auto most = std::max_element(targets_.begin(), targets_.end(), more);
    mine = targets_.size();
    if (most == targets_.end() || most->waiting.empty()) return std::nullopt;
    mine = std::size_t(most - targets_.begin());
    ++most->threads;
  }
  auto& target = targets_[mine];
  const Tensor& tensor = tensors_[target.waiting.back()];
  target.waiting.pop_back();
  target.left -= tensor.length;
  return tensor.number;
}

}  // namespace weightcast
