#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "nccl/descriptor.h"

// The memory that the ranks of one communicator share, in an anonymous memfd:
//   doorbell of every rank | ring of every rank (one producer, all others consume) | ring of every pair of
//   ranks.
// Pages are committed when they are first written, so rings that are never used cost nothing.

namespace emulator::nccl {

/** What a rank sleeps on while it waits for a chunk or for room. */
struct alignas(64) Doorbell {
  std::atomic<std::uint32_t> rung;
  std::atomic<std::uint32_t> sleepers;
};

/** Chunks published or consumed since the group began. */
struct alignas(64) Cursor {
  std::atomic<std::uint64_t> chunks;
};

/** Says to which operation a chunk belongs, so that ranks which disagree notice it and stop, as real ones
 * hang. */
struct alignas(64) ChunkHeader {
  std::uint64_t operation;
  std::uint64_t kind;
  std::uint64_t total_bytes;
  std::uint64_t chunk_bytes;
};

/** Slots of one producer. Every consumer copies each chunk out and moves its own cursor. */
struct Ring {
  Cursor* published;
  Cursor* consumed;
  ChunkHeader* headers;
  std::byte* data;
  std::size_t slots;
  std::size_t slot_bytes;

  std::size_t slot_of(std::uint64_t chunk) const { return static_cast<std::size_t>(chunk % slots); }
  std::byte* slot(std::uint64_t chunk) const { return data + slot_of(chunk) * slot_bytes; }
  ChunkHeader& header(std::uint64_t chunk) const { return headers[slot_of(chunk)]; }
};

/** A new memfd for `ranks` ranks; invalid when the system has none to give. */
Descriptor create_shared_group(int ranks);

/** One rank's mapping of the memory. */
class SharedGroup {
 public:
  SharedGroup(const Descriptor& memory, int ranks);
  ~SharedGroup();
  SharedGroup(const SharedGroup&) = delete;
  SharedGroup& operator=(const SharedGroup&) = delete;

  bool mapped() const { return base_ != nullptr; }
  Doorbell& doorbell(int rank) const;
  /** What `rank` sends to all others; consumed has a cursor a rank. */
  Ring ring_of(int rank) const;
  /** What `from` sends to `to` alone; consumed has one cursor. */
  Ring ring_between(int from, int to) const;

 private:
  int ranks_;
  std::byte* base_ = nullptr;
};

}  // namespace emulator::nccl
