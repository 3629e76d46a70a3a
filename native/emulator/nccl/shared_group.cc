#include "nccl/shared_group.h"

#include <sys/mman.h>

namespace emulator::nccl {
namespace {

constexpr std::size_t kPage = 4096;

std::size_t pages(std::size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

struct RingShape {
  std::size_t consumers;
  std::size_t slots;
  std::size_t slot_bytes;

  std::size_t head_bytes() const {
    return pages((1 + consumers) * sizeof(Cursor) + slots * sizeof(ChunkHeader));
  }
  std::size_t bytes() const { return head_bytes() + slots * slot_bytes; }

  Ring at(std::byte* base) const {
    auto* cursors = reinterpret_cast<Cursor*>(base);
    return {
        cursors, cursors + 1, reinterpret_cast<ChunkHeader*>(cursors + 1 + consumers), base + head_bytes(),
        slots,   slot_bytes};
  }
};

/** Eight chunks of 512 KiB: enough in flight for readers to keep up, small enough to stay in the caches between writer and readers. */
RingShape group_ring(int ranks) { return {static_cast<std::size_t>(ranks), 8, std::size_t{512} << 10}; }
RingShape pair_ring() { return {1, 4, std::size_t{256} << 10}; }

struct Layout {
  explicit Layout(int ranks_)
      : ranks(static_cast<std::size_t>(ranks_)),
        rings_at(pages(ranks * sizeof(Doorbell))),
        pairs_at(rings_at + ranks * group_ring(ranks_).bytes()),
        bytes(pairs_at + ranks * ranks * pair_ring().bytes()) {}
  std::size_t ranks;
  std::size_t rings_at;
  std::size_t pairs_at;
  std::size_t bytes;
};

}  // namespace

Descriptor create_shared_group(int ranks) {
  Descriptor memory(memfd_create("weightcast-emulated-nccl", MFD_CLOEXEC));
  if (!memory.valid() || ftruncate(memory.get(), static_cast<off_t>(Layout(ranks).bytes)) != 0)
    return Descriptor();
  return memory;
}

SharedGroup::SharedGroup(const Descriptor& memory, int ranks) : ranks_(ranks) {
  void* base =
      mmap(nullptr, Layout(ranks).bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory.get(), 0);
  if (base != MAP_FAILED) base_ = static_cast<std::byte*>(base);
}

SharedGroup::~SharedGroup() {
  if (base_ != nullptr) munmap(base_, Layout(ranks_).bytes);
}

Doorbell& SharedGroup::doorbell(int rank) const { return reinterpret_cast<Doorbell*>(base_)[rank]; }

Ring SharedGroup::ring_of(int rank) const {
  const auto shape = group_ring(ranks_);
  return shape.at(base_ + Layout(ranks_).rings_at + static_cast<std::size_t>(rank) * shape.bytes());
}

Ring SharedGroup::ring_between(int from, int to) const {
  const auto index =
      static_cast<std::size_t>(from) * static_cast<std::size_t>(ranks_) + static_cast<std::size_t>(to);
  return pair_ring().at(base_ + Layout(ranks_).pairs_at + index * pair_ring().bytes());
}

}  // namespace emulator::nccl
