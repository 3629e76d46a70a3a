#include "core/staging.h"

#include <atomic>
#include <thread>

#include "core/error.h"

namespace weightcast {
namespace {

/// So long the end of a transfer waits for reads and copies, and the next one for what it left. Within the
/// second that an operation has after its deadline an NCCL abort may take the most.
constexpr double kMomentMs = 100;
/// So many stagings may hang, in a process.
constexpr int kMostHanging = 4;

std::atomic<int>& hanging() {
  static std::atomic<int> count{0};
  return count;
}

void expect_room() {
  if (hanging() < kMostHanging) return;
  throw Error(code::kLimit,
              "reads or copies that have not returned hold the staging memory of " +
                  std::to_string(kMostHanging) + " transfers that were given up; the limit is " +
                  std::to_string(kMostHanging),
              {{"hanging", double(kMostHanging)}, {"limit", double(kMostHanging)}});
}

}  // namespace

std::shared_ptr<Staging> StagingPool::take(const StagingSize& size) {
  auto kept = std::move(kept_);
  if (kept != nullptr && kept->size == size) return kept;
  kept = nullptr;                                // freed before the other is allocated,
  freeing_.wait(Deadline::after(kMomentMs));  // and so is what a transfer has left, unless it hangs
  expect_room();
  const auto& cuda = session_.cuda();
  auto staging = std::make_shared<Staging>();
  staging->size = size;
  staging->drained = make_event(cuda);
  const auto allocating = "allocating the staging memory";
  for (std::uint32_t i = 0; i < size.slots; ++i) {
    session_.expect_time(code::kStuck, allocating);
    staging->slots.push_back({make_device_memory(cuda, size.slot_bytes), make_event(cuda), make_event(cuda)});
  }
  for (std::uint32_t i = 0; i < size.pieces; ++i) {
    session_.expect_time(code::kStuck, allocating);
    staging->pieces.push_back({make_pinned_memory(cuda, size.piece_bytes), make_event(cuda)});
  }
  return staging;
}

void StagingPool::give_back(std::shared_ptr<Staging> staging, const Crew& readers) {
  const auto& cuda = session_.cuda();
  const bool works = cuda.event_record(staging->drained.get(), session_.copies()) == cuda::kSuccess;
  if (!settled(*staging, readers)) {
    free_later(std::move(staging), readers);
  } else if (works) {
    kept_ = std::move(staging);
  }
}

bool StagingPool::settled(const Staging& staging, const Crew& readers) {
  const auto moment = Deadline::after(kMomentMs);
  if (!readers.wait(moment)) return false;
  Backoff backoff;
  while (session_.cuda().event_query(staging.drained.get()) == cuda::kNotReady) {
    if (moment.passed()) return false;
    backoff.pause(session_.interrupt().bell);
  }
  return true;
}

void StagingPool::free_later(std::shared_ptr<Staging> staging, const Crew& readers) {
  // On the heap: where no thread can be had it stays, since the memory is written to.
  auto* left = new std::shared_ptr<Staging>(std::move(staging));
  ++hanging();
  try {
    freeing_.start("wc-staging-end", [left, readers, runtime = session_.shared_runtime(),
                                      device = session_.device()] {
      readers.wait();
      try {
        runtime->enter(device);
      } catch (const Error&) {  // the device is lost, and its memory with it
        return;
      }
      while (runtime->cuda().event_query((*left)->drained.get()) == cuda::kNotReady) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
      delete left;
      --hanging();
    });
  } catch (...) {  // it counts as one that hangs
  }
}

}  // namespace weightcast
