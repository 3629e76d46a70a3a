#include "core/stager.h"

namespace weightcast {
namespace {

std::vector<char*> addresses(const Staging& staging) {
  std::vector<char*> pieces;
  for (const auto& piece : staging.pieces) pieces.push_back(static_cast<char*>(piece.memory.get()));
  return pieces;
}

}  // namespace

Stager::Stager(DeviceSession& session, const DeviceBuffers& buffers, std::shared_ptr<const Plan> plan,
               std::shared_ptr<const Layout> layout, std::shared_ptr<Staging> staging,
               std::shared_ptr<Interrupt> interrupt)
    : session_(session),
      buffers_(buffers),
      plan_(std::move(plan)),
      layout_(std::move(layout)),
      staging_(std::move(staging)),
      reader_(plan_, layout_, addresses(*staging_), staging_, std::move(interrupt),
              [&session] { session.expect_time(code::kFileRead, "opening the files"); }) {}

bool Stager::advance(std::size_t batches_sent) {
  bool moved = retire();
  const auto& cuda = session_.cuda();
  while (batch_ < layout_->batches.size() && batch_ < batches_sent + staging_->slots.size()) {
    const Batch& batch = layout_->batches[batch_];
    queue_device_copies();
    for (; window_ < batch.windows_end; moved = true) {
      if (!reader_.filled(window_)) return moved;
      queue_window();
    }
    const Slot& slot = staging_->slots[batch_ % staging_->slots.size()];
    cuda.check(cuda.event_record(slot.staged.get(), session_.copies()), "cuEventRecord");
    ++batch_;
    moved = true;
  }
  return moved;
}

bool Stager::retire() {
  const std::size_t before = retired_;
  while (retired_ < window_ &&
         is_done(session_.cuda(), staging_->pieces[retired_ % staging_->pieces.size()].copied)) {
    ++retired_;
  }
  if (retired_ != before) reader_.release(retired_);
  copying_.set(!idle());
  return retired_ != before;
}

void Stager::queue_window() {
  const auto& cuda = session_.cuda();
  const Window& window = layout_->windows[window_];
  const PinnedPiece& piece = staging_->pieces[window_ % staging_->pieces.size()];
  const Slot& slot = staging_->slots[batch_ % staging_->slots.size()];
  cuda.check(cuda.copy_to_device(slot.memory.get() + window.slot_offset, piece.memory.get(), window.length,
                                 session_.copies()),
             "cuMemcpyHtoDAsync");
  cuda.check(cuda.event_record(piece.copied.get(), session_.copies()), "cuEventRecord");
  ++window_;
  copying_.set(true);
}

void Stager::queue_device_copies() {
  const auto& cuda = session_.cuda();
  const Slot& slot = staging_->slots[batch_ % staging_->slots.size()];
  for (; device_copy_ < layout_->batches[batch_].device_copies_end; ++device_copy_) {
    const DeviceCopy& copy = layout_->device_copies[device_copy_];
    const auto source = buffers_.at(plan_->device_buffers[copy.source], {copy.source_offset, copy.length});
    cuda.check(
        cuda.copy_on_device(slot.memory.get() + copy.slot_offset, source, copy.length, session_.copies()),
        "cuMemcpyDtoDAsync");
  }
}

}  // namespace weightcast
