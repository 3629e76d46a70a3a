// The memory that bytes pass through: device slots and pinned pieces. Kept from one transfer to the next.
#pragma once

#include <memory>
#include <vector>

#include "core/cuda_handles.h"
#include "core/plan.h"

namespace weightcast {

struct Slot {
  DeviceMemory memory;
  Event staged;  ///< its bytes have arrived
  Event sent;    ///< its broadcasts are done
};

struct Piece {
  PinnedMemory memory;
  Event copied;
};

struct Staging {
  StagingSize size;
  std::vector<Slot> slots;
  std::vector<Piece> pieces;
};

/// Keeps the staging that was used last.
class StagingPool {
 public:
  explicit StagingPool(const CudaApi& cuda) : cuda_(cuda) {}

  std::shared_ptr<Staging> take(const StagingSize& size) {
    auto kept = std::move(kept_);
    if (kept != nullptr && kept->size == size) return kept;
    kept = nullptr;  // freed before the other is allocated
    auto staging = std::make_shared<Staging>();
    staging->size = size;
    for (std::uint32_t i = 0; i < size.slots; ++i) {
      staging->slots.push_back(
          {make_device_memory(cuda_, size.slot_bytes), make_event(cuda_), make_event(cuda_)});
    }
    for (std::uint32_t i = 0; i < size.pieces; ++i) {
      staging->pieces.push_back({make_pinned_memory(cuda_, size.piece_bytes), make_event(cuda_)});
    }
    return staging;
  }
  void give_back(std::shared_ptr<Staging> staging) { kept_ = std::move(staging); }
  void clear() { kept_ = nullptr; }

 private:
  const CudaApi& cuda_;
  std::shared_ptr<Staging> kept_;
};

}  // namespace weightcast
