#include "nccl/transport.h"

#include <linux/futex.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <ctime>

#include "common/faults.h"
#include "nccl/log.h"

namespace emulator::nccl {
namespace {

constexpr int kSpins = 64;
/** How often a sleeping rank looks whether the others still live. */
constexpr timespec kSlice = {0, 50'000'000};

bool futex_sleep(std::atomic<std::uint32_t>& word, std::uint32_t expected) {
  return syscall(SYS_futex, &word, FUTEX_WAIT, expected, &kSlice, nullptr, 0) == 0;
}

void futex_wake(std::atomic<std::uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/** The `slow` fault: the time that `bytes` take at the given rate. */
Outcome throttle(StopFlag& stop, std::size_t bytes) {
  const auto rate = faults().slow_bytes_per_second;
  if (rate == 0) return Outcome::done;
  const std::chrono::duration<double> time(static_cast<double>(bytes) / static_cast<double>(rate));
  const bool slept = stop.sleep(std::chrono::duration_cast<std::chrono::nanoseconds>(time));
  return slept ? Outcome::done : Outcome::stopped;
}

}  // namespace

Transport::Transport(int rank, int ranks, const Descriptor& memory, std::vector<Descriptor> lifelines,
                     Descriptor own, StopFlag& stop)
    : rank_(rank),
      ranks_(ranks),
      memory_(memory, ranks),
      lifelines_(std::move(lifelines)),
      own_(std::move(own)),
      stop_(stop) {}

bool Transport::gone(int rank) const {
  pollfd line = {lifelines_[static_cast<std::size_t>(rank)].get(), POLLRDHUP, 0};
  return poll(&line, 1, 0) == 1 && (line.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void Transport::ring(int rank) {
  Doorbell& bell = memory_.doorbell(rank);
  bell.rung.fetch_add(1);
  if (bell.sleepers.load() != 0) futex_wake(bell.rung);
}

void Transport::wake() { ring(rank_); }

void Transport::leave() { shutdown(own_.get(), SHUT_RDWR); }

/**
 * Sleeps until `ready`. `needed` are the ranks without which it can't become so: when one of them has gone
 * the wait fails. A producer that waits for room names none, because a real root does not notice a dead
 * receiver.
 */
template <typename Ready>
Outcome Transport::wait(Ready ready, std::span<const int> needed) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (ready()) return Outcome::done;
    relax();
  }
  Doorbell& bell = memory_.doorbell(rank_);
  for (;;) {
    const auto seen = bell.rung.load();
    bell.sleepers.fetch_add(1);
    const bool now = ready();
    const bool woken = now || stop_.is_set() || futex_sleep(bell.rung, seen);
    bell.sleepers.fetch_sub(1);
    if (now) return Outcome::done;
    if (stop_.is_set()) return Outcome::stopped;
    if (woken) continue;
    for (const int rank : needed) {
      // What a rank published before it left still counts.
      if (gone(rank)) return ready() ? Outcome::done : Outcome::peer_gone;
    }
  }
}

Outcome Transport::mismatch(const ChunkHeader& header, const Tag& tag, std::size_t chunk_bytes, int source) {
  if (header.operation == tag.operation && header.kind == tag.kind && header.total_bytes == tag.total_bytes &&
      header.chunk_bytes == chunk_bytes) {
    return Outcome::done;
  }
  warn(
      "operation %llu does not match between ranks: rank %d sends %llu bytes (kind %llu), rank %d expects "
      "%llu bytes "
      "(kind %llu). Real NCCL hangs or corrupts memory here; waiting for an abort.",
      static_cast<unsigned long long>(tag.operation), source,
      static_cast<unsigned long long>(header.total_bytes), static_cast<unsigned long long>(header.kind),
      rank_, static_cast<unsigned long long>(tag.total_bytes), static_cast<unsigned long long>(tag.kind));
  return wait([] { return false; }, std::span(&source, 1));
}

Outcome Transport::put(const Tag& tag, const std::byte* source, std::size_t bytes) {
  const Ring ring_out = memory_.ring_of(rank_);
  const auto chunk = ring_out.published->chunks.load();
  const auto has_room = [&] {
    for (int r = 0; r < ranks_; ++r) {
      if (r != rank_ && chunk - ring_out.consumed[r].chunks.load() >= ring_out.slots) return false;
    }
    return true;
  };
  if (const auto outcome = wait(has_room, {}); outcome != Outcome::done) return outcome;
  std::memcpy(ring_out.slot(chunk), source, bytes);
  ring_out.header(chunk) = {tag.operation, tag.kind, tag.total_bytes, bytes};
  ring_out.published->chunks.store(chunk + 1);
  for (int r = 0; r < ranks_; ++r) {
    if (r != rank_) ring(r);
  }
  return throttle(stop_, bytes);
}

Outcome Transport::take(int from, const Tag& tag, std::size_t bytes,
                        const std::function<void(const std::byte*)>& use) {
  const Ring ring_in = memory_.ring_of(from);
  auto& consumed = ring_in.consumed[rank_].chunks;
  const auto chunk = consumed.load();
  const auto arrived = [&] { return ring_in.published->chunks.load() > chunk; };
  if (const auto outcome = wait(arrived, std::span(&from, 1)); outcome != Outcome::done) return outcome;
  if (const auto outcome = mismatch(ring_in.header(chunk), tag, bytes, from); outcome != Outcome::done)
    return outcome;
  use(ring_in.slot(chunk));
  consumed.store(chunk + 1);
  ring(from);
  return throttle(stop_, bytes);
}

Outcome Transport::publish(const Tag& tag, const std::byte* source, std::size_t bytes,
                           const Progress& progress) {
  const auto chunk_bytes = memory_.ring_of(rank_).slot_bytes;
  for (std::size_t offset = 0; offset < bytes; offset += chunk_bytes) {
    progress(offset);
    const auto outcome = put(tag, source + offset, std::min(chunk_bytes, bytes - offset));
    if (outcome != Outcome::done) return outcome;
  }
  return Outcome::done;
}

Outcome Transport::collect(int root, const Tag& tag, std::size_t bytes, const Visit& visit) {
  const auto chunk_bytes = memory_.ring_of(root).slot_bytes;
  for (std::size_t offset = 0; offset < bytes; offset += chunk_bytes) {
    const auto part = std::min(chunk_bytes, bytes - offset);
    const auto outcome =
        take(root, tag, part, [&](const std::byte* data) { visit(root, offset, data, part); });
    if (outcome != Outcome::done) return outcome;
  }
  return Outcome::done;
}

Outcome Transport::exchange(const Tag& tag, const std::byte* source, std::size_t bytes, const Visit& visit) {
  const Ring own = memory_.ring_of(rank_);
  for (std::size_t offset = 0; offset < bytes; offset += own.slot_bytes) {
    const auto part = std::min(own.slot_bytes, bytes - offset);
    const auto chunk = own.published->chunks.load();
    if (const auto outcome = put(tag, source + offset, part); outcome != Outcome::done) return outcome;
    for (int r = 0; r < ranks_; ++r) {
      // Its own chunk is read from the ring too: an in-place receive buffer may be overwritten by now.
      if (r == rank_) {
        visit(r, offset, own.slot(chunk), part);
        continue;
      }
      const auto outcome = take(r, tag, part, [&](const std::byte* data) { visit(r, offset, data, part); });
      if (outcome != Outcome::done) return outcome;
    }
  }
  return Outcome::done;
}

/** Moves at most one chunk of the message; false when it has to wait. */
bool Transport::step(Message& message, Outcome& outcome) {
  const Ring pair =
      message.sends ? memory_.ring_between(rank_, message.peer) : memory_.ring_between(message.peer, rank_);
  const auto part = std::min(pair.slot_bytes, message.bytes - message.moved);
  auto& published = pair.published->chunks;
  auto& consumed = pair.consumed[0].chunks;
  if (message.sends) {
    const auto chunk = published.load();
    if (chunk - consumed.load() >= pair.slots) return false;
    std::memcpy(pair.slot(chunk), message.buffer + message.moved, part);
    pair.header(chunk) = {message.tag.operation, message.tag.kind, message.tag.total_bytes, part};
    published.store(chunk + 1);
  } else {
    const auto chunk = consumed.load();
    if (published.load() == chunk) return false;
    outcome = mismatch(pair.header(chunk), message.tag, part, message.peer);
    if (outcome != Outcome::done) return true;
    std::memcpy(message.buffer + message.moved, pair.slot(chunk), part);
    consumed.store(chunk + 1);
  }
  message.moved += part;
  ring(message.peer);
  outcome = throttle(stop_, part);
  return true;
}

Outcome Transport::move(std::span<Message> messages) {
  const auto first_open = [&](bool sends, int peer) -> Message* {
    for (auto& message : messages) {
      if (message.sends == sends && message.peer == peer && message.moved < message.bytes) return &message;
    }
    return nullptr;
  };
  for (;;) {
    bool open = false, moved = false;
    std::vector<int> senders;
    for (auto& message : messages) {
      if (message.moved == message.bytes || first_open(message.sends, message.peer) != &message) continue;
      open = true;
      if (!message.sends) senders.push_back(message.peer);
      auto outcome = Outcome::done;
      moved |= step(message, outcome);
      if (outcome != Outcome::done) return outcome;
    }
    if (!open) return Outcome::done;
    if (moved) continue;
    const auto can_move = [&] {
      return std::any_of(messages.begin(), messages.end(), [&](Message& message) {
        if (message.moved == message.bytes) return false;
        const Ring pair = message.sends ? memory_.ring_between(rank_, message.peer)
                                        : memory_.ring_between(message.peer, rank_);
        const auto waiting = pair.published->chunks.load() - pair.consumed[0].chunks.load();
        return message.sends ? waiting < pair.slots : waiting > 0;
      });
    };
    if (const auto outcome = wait(can_move, senders); outcome != Outcome::done) return outcome;
  }
}

}  // namespace emulator::nccl
