#pragma once
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "nccl/abi.h"
#include "nccl/descriptor.h"
#include "nccl/shared_group.h"
#include "nccl/stop_flag.h"

namespace emulator::nccl {

enum class Outcome { done, stopped, peer_gone };

/** Which operation a chunk is part of. */
struct Tag {
  std::uint64_t operation;
  std::uint64_t kind;
  std::uint64_t total_bytes;
};

/** One message of a group of sends and receives. */
struct Message {
  bool sends;
  int peer;
  std::byte* buffer;
  std::size_t bytes;
  Tag tag;
  std::size_t moved = 0;
};

/** One rank's end of the rings. One operation at a time. */
class Transport {
 public:
  /** `lifelines[r]` hangs up when rank r leaves or dies; `own` is what the others' lifelines to this rank
   * depend on. */
  Transport(int rank, int ranks, const Descriptor& memory, std::vector<Descriptor> lifelines, Descriptor own,
            StopFlag& stop);

  bool usable() const { return memory_.mapped(); }
  int rank() const { return rank_; }
  int ranks() const { return ranks_; }

  /** Called after a chunk moved, with the operation's bytes so far. */
  using Progress = std::function<void(std::size_t)>;
  /** Sends `source` to all other ranks. */
  Outcome publish(const Tag& tag, const std::byte* source, std::size_t bytes, const Progress& progress);
  /** Receives what `root` publishes. */
  using Visit = std::function<void(int rank, std::size_t offset, const std::byte* data, std::size_t bytes)>;
  Outcome collect(int root, const Tag& tag, std::size_t bytes, const Visit& visit);
  /** Every rank publishes `bytes` bytes; every rank sees all of them, chunk by chunk, in the order of the
   * ranks. */
  Outcome exchange(const Tag& tag, const std::byte* source, std::size_t bytes, const Visit& visit);
  /** Moves messages at the same time; those of one peer and direction stay in order. */
  Outcome move(std::span<Message> messages);

  /** Wakes this rank's waiting thread, after the stop flag was set. */
  void wake();
  /** Hangs up: the other ranks see this rank as gone. What it published can still be read. */
  void leave();

 private:
  template <typename Ready>
  Outcome wait(Ready ready, std::span<const int> needed);
  Outcome mismatch(const ChunkHeader& header, const Tag& tag, std::size_t chunk_bytes, int source);
  bool gone(int rank) const;
  void ring(int rank);
  Outcome put(const Tag& tag, const std::byte* source, std::size_t bytes);
  Outcome take(int from, const Tag& tag, std::size_t bytes, const std::function<void(const std::byte*)>& use);
  bool step(Message& message, Outcome& outcome);

  int rank_;
  int ranks_;
  SharedGroup memory_;
  std::vector<Descriptor> lifelines_;
  Descriptor own_;
  StopFlag& stop_;
};

}  // namespace emulator::nccl
