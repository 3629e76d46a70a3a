#include "nccl/operation.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "common/faults.h"
#include "nccl/data_type.h"

namespace emulator::nccl {
namespace {

std::atomic<std::uint64_t> broadcasts_begun{0};

void copy(std::byte* target, const std::byte* source, std::size_t bytes) {
  if (target != source) std::memcpy(target, source, bytes);
}

/** The die-in-broadcast fault: the process ends once half of the bytes have gone. */
struct Mortality {
  bool doomed;
  std::size_t bytes;
  void operator()(std::size_t moved) const {
    if (doomed && (moved >= bytes / 2)) _exit(1);
  }
};

Outcome broadcast(Operation& o, const Tag& tag, Transport& transport) {
  const auto number = ++broadcasts_begun;
  if (number == faults().die_before_broadcast) _exit(1);
  const Mortality check{number == faults().die_in_broadcast, o.bytes};
  const auto survive = [number](Outcome outcome) {
    if (outcome == Outcome::done && number == faults().die_after_broadcast) _exit(1);
    return outcome;
  };
  if (transport.rank() == o.root) {
    const auto outcome = transport.publish(tag, o.source, o.bytes, check);
    if (outcome == Outcome::done) copy(o.target, o.source, o.bytes);
    return survive(outcome);
  }
  const auto outcome = transport.collect(o.root, tag, o.bytes,
                           [&](int, std::size_t offset, const std::byte* data, std::size_t n) {
                             check(offset);
                             std::memcpy(o.target + offset, data, n);
                           });
  return survive(outcome);
}

/** Reduction over the ranks in their order, so that every rank gets the same bits. */
void fold(const Operation& o, int rank, int ranks, std::byte* target, const std::byte* data,
          std::size_t bytes) {
  if (rank == 0) {
    std::memcpy(target, data, bytes);
  } else {
    reduce(o.type, o.op, target, data, bytes);
  }
  if (rank == ranks - 1 && o.op == kAvg) finish_average(o.type, target, bytes, ranks);
}

/** The part of a chunk [offset, offset + bytes) that lies in block `block` of `block_bytes` bytes each. */
template <typename Use>
void in_block(std::size_t block, std::size_t block_bytes, std::size_t offset, std::size_t bytes, Use use) {
  const auto begin = std::max(offset, block * block_bytes);
  const auto end = std::min(offset + bytes, (block + 1) * block_bytes);
  if (begin < end) use(begin - block * block_bytes, begin - offset, end - begin);
}

}  // namespace

Outcome execute(Operation& o, Transport& transport) {
  const int ranks = transport.ranks();
  const auto me = static_cast<std::size_t>(transport.rank());
  const bool is_root = transport.rank() == o.root;
  const auto all_blocks = o.bytes * static_cast<std::size_t>(ranks);
  Tag tag{o.number, static_cast<std::uint64_t>(o.kind), o.bytes};

  switch (o.kind) {
    case Kind::broadcast:
      return broadcast(o, tag, transport);
    case Kind::all_reduce:
      return transport.exchange(tag, o.source, o.bytes,
                                [&](int r, std::size_t at, const std::byte* data, std::size_t n) {
                                  fold(o, r, ranks, o.target + at, data, n);
                                });
    case Kind::reduce:
      return transport.exchange(tag, o.source, o.bytes,
                                [&](int r, std::size_t at, const std::byte* data, std::size_t n) {
                                  if (is_root) fold(o, r, ranks, o.target + at, data, n);
                                });
    case Kind::all_gather:
      return transport.exchange(tag, o.source, o.bytes,
                                [&](int r, std::size_t at, const std::byte* data, std::size_t n) {
                                  std::memcpy(o.target + static_cast<std::size_t>(r) * o.bytes + at, data, n);
                                });
    case Kind::gather:
      return transport.exchange(
          tag, o.source, o.bytes, [&](int r, std::size_t at, const std::byte* data, std::size_t n) {
            if (is_root) std::memcpy(o.target + static_cast<std::size_t>(r) * o.bytes + at, data, n);
          });
    case Kind::reduce_scatter:
      return transport.exchange(
          tag, o.source, all_blocks, [&](int r, std::size_t at, const std::byte* data, std::size_t n) {
            in_block(me, o.bytes, at, n, [&](std::size_t to, std::size_t from, std::size_t length) {
              fold(o, r, ranks, o.target + to, data + from, length);
            });
          });
    case Kind::all_to_all:
      return transport.exchange(
          tag, o.source, all_blocks, [&](int r, std::size_t at, const std::byte* data, std::size_t n) {
            in_block(me, o.bytes, at, n, [&](std::size_t to, std::size_t from, std::size_t length) {
              std::memcpy(o.target + static_cast<std::size_t>(r) * o.bytes + to, data + from, length);
            });
          });
    case Kind::scatter: {
      const auto place = [&](int, std::size_t at, const std::byte* data, std::size_t n) {
        in_block(me, o.bytes, at, n, [&](std::size_t to, std::size_t from, std::size_t length) {
          copy(o.target + to, data + from, length);
        });
      };
      if (!is_root) return transport.collect(o.root, tag, all_blocks, place);
      const auto outcome = transport.publish(tag, o.source, all_blocks, [](std::size_t) {});
      place(o.root, 0, o.source, all_blocks);
      return outcome;
    }
    case Kind::messages:
      return transport.move(o.messages);
  }
  return Outcome::done;
}

}  // namespace emulator::nccl
