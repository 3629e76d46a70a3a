#include "core/transfer.h"

namespace weightcast {
namespace {

/// Staging waits for disks only; when not a byte comes for so long, the file system is gone.
constexpr double kStallLimitMs = 60'000;

}  // namespace

Transfer::Transfer(DeviceSession& session, const DeviceBuffers& buffers, StagingPool& pool, Plan plan,
                   std::shared_ptr<Interrupt> interrupt)
    : session_(session),
      pool_(pool),
      interrupt_(interrupt),
      plan_(std::make_shared<const Plan>(std::move(plan))),
      layout_(std::make_shared<const Layout>(lay_out(*plan_))),
      staging_(pool.take(plan_->staging)),
      frames_issued_(std::make_shared<std::atomic<std::uint64_t>>(0)),
      stager_(std::in_place, session, buffers, plan_, layout_, staging_, std::move(interrupt)) {}

Transfer::~Transfer() {
  const auto readers = stager_->reader().threads();
  stager_.reset();
  pool_.give_back(std::move(staging_), readers);
}

Error Transfer::not_staged(const Deadline& missed) const {
  if (stager_->waits_for_copies()) return session_.stuck_copy(missed);
  const auto read = stager_->reader().bytes_read();
  return Error(code::kFileRead,
               "the next frames were not staged: " + std::to_string(read) +
                   " bytes were read, and no more within " + std::to_string(long(missed.budget_ms())) +
                   " ms; the file system is slow, or hangs",
               {{"bytesRead", double(read)}});
}

void Transfer::stage(const Deadline& deadline) {
  const std::size_t goal = std::min(layout_->batches.size(), staging_->slots.size());
  std::uint64_t read = 0;
  auto stalled = Deadline::after(kStallLimitMs);
  Backoff backoff;
  while (stager_->batches_queued() < goal) {
    if (interrupt_->raised()) throw Error(code::kNcclAborted, "the communicator was aborted while it staged");
    if (stager_->advance(0)) backoff.reset();
    if (const auto now = stager_->reader().bytes_read(); now != read) {
      read = now;
      stalled = Deadline::after(kStallLimitMs);
    }
    for (const auto& limit : {deadline, stalled}) {
      if (limit.passed()) throw not_staged(limit);
    }
    backoff.pause(interrupt_->bell);
  }
  session_.drain_copies();
  stager_->advance(0);
}

TransferStats Transfer::run(NcclGroup& group, const Deadline& deadline, const Progress& progress) {
  const auto start = Clock::now();
  const auto total = layout_->frames.size();
  Watch watch{"weight broadcast", deadline, [&] { stager_->advance(batches_sent_); }};
  Backoff backoff;
  Ticker health;
  while (batches_sent_ < layout_->batches.size()) {
    bool moved = stager_->advance(batches_sent_);
    moved |= retire_batches();
    if (batches_issued_ < stager_->batches_queued()) {
      watch.operation =
          "broadcast of frame " + std::to_string(*frames_issued_ + 1) + " of " + std::to_string(total);
      send_next_frame(group, watch);
      moved = true;
    }
    report(progress, false);
    if (moved) {
      backoff.reset();
      continue;
    }
    // While nothing is under way between the ranks, it is not they who are late.
    if (batches_issued_ == batches_sent_ && deadline.passed()) throw not_staged(deadline);
    group.check(watch);
    if (health.due()) group.expect_healthy(watch);
    backoff.pause(interrupt_->bell);
  }
  group.expect_healthy(watch);
  report(progress, true);
  return {total,
          layout_->batches.empty() ? 0 : layout_->batches.back().bytes,
          milliseconds_since(start),
          stager_->reader().busy_ms(),
          stager_->copy_ms(),
          sending_.total_ms()};
}

bool Transfer::retire_batches() {
  const std::size_t before = batches_sent_;
  while (batches_sent_ < batches_issued_ &&
         is_done(session_.cuda(), staging_->slots[batches_sent_ % staging_->slots.size()].sent)) {
    ++batches_sent_;
  }
  if (batches_sent_ == batches_issued_ && batches_sent_ != before) sending_.set(false);
  return batches_sent_ != before;
}

void Transfer::send_next_frame(NcclGroup& group, const Watch& watch) {
  const auto& cuda = session_.cuda();
  const Slot& slot = staging_->slots[batches_issued_ % staging_->slots.size()];
  const std::size_t frame = *frames_issued_;
  const bool first = frame == (batches_issued_ == 0 ? 0 : layout_->batches[batches_issued_ - 1].frames_end);
  const bool last_batch = batches_issued_ + 1 == layout_->batches.size();
  if (first) {
    // Everything is read when the last batch is staged: a file that changed meanwhile must not be completed.
    if (last_batch) stager_->reader().expect_unchanged();
    cuda.check(cuda.stream_wait(session_.collectives(), slot.staged.get(), 0), "cuStreamWaitEvent");
  }
  sending_.set(true);
  const FramePlace& place = layout_->frames[frame];
  group.check(watch);
  ++*frames_issued_;
  group.broadcast(slot.memory.get() + place.slot_offset, place.length, plan_->root, watch);
  if (frame + 1 == layout_->batches[batches_issued_].frames_end) {
    cuda.check(cuda.event_record(slot.sent.get(), session_.collectives()), "cuEventRecord");
    ++batches_issued_;
  }
}

void Transfer::report(const Progress& progress, bool always) {
  if (!progress || !(ticker_.due() || always)) return;
  const bool none = batches_sent_ == 0;
  progress({none ? 0 : layout_->batches[batches_sent_ - 1].frames_end, stager_->reader().bytes_read(),
            none ? 0 : layout_->batches[batches_sent_ - 1].bytes});
}

}  // namespace weightcast
