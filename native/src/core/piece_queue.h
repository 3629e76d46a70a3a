// Long items cut into pieces that any thread takes, and a turn for each: what comes of them is put in order.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

namespace weightcast {

struct Piece {
  std::size_t item;
  std::uint64_t offset;  ///< in the item
  std::size_t length;
  std::uint64_t turn;
};

class PieceQueue {
 public:
  /// Items without bytes have no pieces.
  PieceQueue(std::vector<std::uint64_t> lengths, std::size_t piece_bytes);

  /// The next piece, in order; none when all are taken.
  std::optional<Piece> take();
  /// Returns when all pieces before have had their turn; false when `stopping` says so meanwhile.
  bool wait_turn(const Piece& piece, const std::function<bool()>& stopping);
  /// The turn is over.
  void pass(const Piece& piece);
  /// Hands out no more of this item; the bytes that nobody will see.
  std::uint64_t skip(std::size_t item);

 private:
  const std::vector<std::uint64_t> lengths_;
  const std::size_t piece_bytes_;
  std::mutex mutex_;
  std::condition_variable passed_;
  std::size_t item_ = 0;      // guarded by mutex_: what is taken next
  std::uint64_t offset_ = 0;  // guarded by mutex_
  std::uint64_t taken_ = 0;   // guarded by mutex_: number of pieces
  std::uint64_t turn_ = 0;    // guarded by mutex_
};

}  // namespace weightcast
