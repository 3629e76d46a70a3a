// Brings batches into device slots: pieces that the reader filled, and device ranges. Never waits.
#pragma once

#include <memory>

#include "core/busy_time.h"
#include "core/reader.h"
#include "core/staging.h"

namespace weightcast {

class Stager {
 public:
  /// Opens the files and starts to read. @throws Error
  Stager(DeviceSession& session, const DeviceBuffers& buffers, std::shared_ptr<const Plan> plan,
         std::shared_ptr<const Layout> layout, std::shared_ptr<Staging> staging,
         std::shared_ptr<Interrupt> interrupt);

  /// Queues the copies that can be queued: windows that are read, into slots of batches before `sent +
  /// slots`. True when it did something. @throws Error
  bool advance(std::size_t batches_sent);

  /// Batches whose copies are all queued; their slot's `staged` event stands behind the copies.
  std::size_t batches_queued() const { return batch_; }
  /// Nothing is under way on the copy stream.
  bool idle() const { return retired_ == window_; }
  /// Nothing can be read before a copy ends.
  bool waits_for_copies() const { return window_ - retired_ == staging_->pieces.size(); }
  const Reader& reader() const { return reader_; }
  double copy_ms() const { return copying_.total_ms(); }

 private:
  bool retire();
  void queue_window();
  void queue_device_copies();

  DeviceSession& session_;
  const DeviceBuffers& buffers_;
  std::shared_ptr<const Plan> plan_;
  std::shared_ptr<const Layout> layout_;
  std::shared_ptr<Staging> staging_;
  BusyTime copying_;
  std::size_t batch_ = 0;        // being queued
  std::size_t window_ = 0;       // next to queue
  std::size_t device_copy_ = 0;  // next to queue
  std::size_t retired_ = 0;      // windows whose copy is done
  Reader reader_;                // last: its threads stop before the rest goes
};

}  // namespace weightcast
