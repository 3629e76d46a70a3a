#include "core/piece_queue.h"

#include <algorithm>
#include <chrono>

namespace weightcast {
namespace {

/// A stop is seen after this; nobody rings for it, since whoever stops must not wait for a lock.
constexpr std::chrono::milliseconds kLook{50};

}  // namespace

PieceQueue::PieceQueue(std::vector<std::uint64_t> lengths, std::size_t piece_bytes)
    : lengths_(std::move(lengths)), piece_bytes_(piece_bytes) {}

std::optional<Piece> PieceQueue::take() {
  std::lock_guard lock(mutex_);
  while (item_ < lengths_.size() && offset_ == lengths_[item_]) {
    ++item_;
    offset_ = 0;
  }
  if (item_ == lengths_.size()) return std::nullopt;
  const auto length = std::size_t(std::min<std::uint64_t>(piece_bytes_, lengths_[item_] - offset_));
  const Piece piece{item_, offset_, length, taken_++};
  offset_ += length;
  return piece;
}

bool PieceQueue::wait_turn(const Piece& piece, const std::function<bool()>& stopping) {
  std::unique_lock lock(mutex_);
  while (turn_ != piece.turn) {
    if (stopping()) return false;
    passed_.wait_for(lock, kLook);
  }
  return !stopping();
}

void PieceQueue::pass(const Piece& piece) {
  {
    std::lock_guard lock(mutex_);
    turn_ = piece.turn + 1;
  }
  passed_.notify_all();
}

std::uint64_t PieceQueue::skip(std::size_t item) {
  std::lock_guard lock(mutex_);
  if (item_ != item) return 0;
  const auto rest = lengths_[item] - offset_;
  offset_ = lengths_[item];
  return rest;
}

}  // namespace weightcast
