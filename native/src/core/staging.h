// The memory that bytes pass through: device slots and pinned pieces. Kept from one transfer to the next.
#pragma once

#include <memory>
#include <vector>

#include "core/crew.h"
#include "core/cuda_handles.h"
#include "core/device_session.h"
#include "core/plan.h"

namespace weightcast {

struct Slot {
  DeviceMemory memory;
  Event staged;  ///< its bytes have arrived
  Event sent;    ///< its broadcasts are done
};

struct PinnedPiece {
  PinnedMemory memory;
  Event copied;
};

struct Staging {
  StagingSize size;
  std::vector<Slot> slots;
  std::vector<PinnedPiece> pieces;
  Event drained;  ///< the copies of a transfer that has ended are done
};

/// Keeps the staging that was used last.
class StagingPool {
 public:
  explicit StagingPool(DeviceSession& session) : session_(session) {}

  /// @throws Error WC_CUDA_OUT_OF_MEMORY; WC_NATIVE_LIMIT when reads or copies that hang hold too much already
  std::shared_ptr<Staging> take(const StagingSize& size);
  /// `readers` were told to stop. What they, or the copies, still use after a moment is freed when they have
  /// ended, by a thread that waits for that, also when the communicator is gone by then.
  void give_back(std::shared_ptr<Staging> staging, const Crew& readers);
  void clear() { kept_ = nullptr; }

 private:
  bool settled(const Staging& staging, const Crew& readers);
  void free_later(std::shared_ptr<Staging> staging, const Crew& readers);

  DeviceSession& session_;
  std::shared_ptr<Staging> kept_;
  Crew freeing_;
};

}  // namespace weightcast
