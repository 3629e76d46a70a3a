// Hands the tensors of a delta to threads: each keeps to a file of its own while there are enough, since the file
// system lets one thread write to a file at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

namespace weightcast {

class ApplyQueue {
 public:
  struct Tensor {
    std::size_t number;  ///< by which it is handed out
    std::uint32_t target;
    std::uint64_t length;
  };

  ApplyQueue(const std::vector<Tensor>& tensors, std::size_t targets);

  /// The number of the largest tensor that waits for target `mine`, or for the one with most left to do when it has none; sets
  /// `mine`, which is no target at first. None when all are taken.
  std::optional<std::size_t> take(std::size_t& mine);

 private:
  struct Target {
    std::vector<std::size_t> waiting;  // the largest last
    std::uint64_t left = 0;            // bytes
    unsigned threads = 0;
  };

  const std::vector<Tensor> tensors_;
  std::mutex mutex_;
  std::vector<Target> targets_;  // guarded by mutex_
};

}  // namespace weightcast
