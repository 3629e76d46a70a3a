// What moves between ranks, and that it is right.
#include <bit>
#include <fstream>
#include <numeric>
#include <thread>

#include "emulator_nccl_api.h"

namespace emulator::test {

using nccl::DataType;

CASE(every_public_name_of_nccl_2_32_is_exported) {
  std::ifstream names(EMULATOR_NCCL_NAMES);
  int count = 0;
  for (std::string name; std::getline(names, name);) {
    if (name.starts_with('#')) continue;
    CHECK(symbol_of(nccl_library(), name.c_str()) != nullptr);
    ++count;
  }
  CHECK_EQ(count, 97);
}

constexpr std::size_t kSizes[] = {0, 1, 4095, 524'288, 524'289, 5'000'003};

ROLE(receive_sizes) {
  auto comm = joined(me);
  for (const auto size : kSizes) {
    std::vector<unsigned char> got(size + 1, 0xee);
    CHECK_EQ(Broadcast(nullptr, got.data(), size, nccl::kUint8, 0, comm, nullptr), 0);
    auto expected = pattern(size, static_cast<unsigned>(size));
    expected.push_back(0xee);
    CHECK(got == expected);
  }
  CHECK_EQ(CommDestroy(comm), 0);
}

CASE(a_broadcast_of_any_size_is_in_place_at_two_receivers_when_the_call_returns) {
  with_ranks("receive_sizes", 3, [](const Rank& me) {
    auto comm = joined(me);
    for (const auto size : kSizes) {
      auto sent = pattern(size, static_cast<unsigned>(size));
      sent.push_back(0);
      CHECK_EQ(Broadcast(sent.data(), sent.data(), size, nccl::kUint8, 0, comm, nullptr), 0);
    }
    CHECK_EQ(CommDestroy(comm), 0);
  });
}

/** All collectives on one rank, out of place. Every rank's input is a function of its number. */
void all_collectives(const Rank& me) {
  auto comm = joined(me);
  const int n = me.ranks;
  const auto ranks = static_cast<std::size_t>(n);
  const std::size_t count = 300'000;  // of int32: more than two chunks
  std::vector<int> mine(count), out(count);
  std::iota(mine.begin(), mine.end(), me.rank * 1000);

  CHECK_EQ(AllReduce(mine.data(), out.data(), count, nccl::kInt32, nccl::kSum, comm, nullptr), 0);
  for (std::size_t i = 0; i < count; ++i) CHECK(out[i] == n * static_cast<int>(i) + 1000 * n * (n - 1) / 2);
  CHECK_EQ(Reduce(mine.data(), out.data(), count, nccl::kInt32, nccl::kMax, 1, comm, nullptr), 0);
  if (me.rank == 1) CHECK_EQ(out[7], 7 + 1000 * (n - 1));

  std::vector<int> all(count * ranks);
  CHECK_EQ(AllGather(mine.data(), all.data(), count, nccl::kInt32, comm, nullptr), 0);
  for (int r = 0; r < n; ++r) CHECK_EQ(all[static_cast<std::size_t>(r) * count + 5], r * 1000 + 5);
  CHECK_EQ(ReduceScatter(all.data(), out.data(), count, nccl::kInt32, nccl::kSum, comm, nullptr), 0);
  CHECK_EQ(out[count - 1], n * (me.rank * 1000 + static_cast<int>(count) - 1));

  std::vector<int> scattered(count * ranks);
  CHECK_EQ(AlltoAll(all.data(), scattered.data(), count, nccl::kInt32, comm, nullptr), 0);
  for (int r = 0; r < n; ++r) CHECK_EQ(scattered[static_cast<std::size_t>(r) * count], me.rank * 1000);
  std::vector<int> gathered(count * ranks, -1);
  CHECK_EQ(Gather(mine.data(), gathered.data(), count, nccl::kInt32, 0, comm, nullptr), 0);
  CHECK_EQ(gathered[count], me.rank == 0 ? 1000 : -1);
  CHECK_EQ(Scatter(all.data(), out.data(), count, nccl::kInt32, 0, comm, nullptr), 0);
  CHECK_EQ(out[3], me.rank * 1000 + 3);

  // In place, as vLLM's warm-up is not.
  float value = static_cast<float>(me.rank);
  CHECK_EQ(AllReduce(&value, &value, 1, nccl::kFloat32, nccl::kAvg, comm, nullptr), 0);
  CHECK_EQ(value, static_cast<float>(n - 1) / 2);
  CHECK_EQ(CommDestroy(comm), 0);
}

ROLE(collectives) { all_collectives(me); }

CASE(every_collective_gives_every_rank_its_share) { with_ranks("collectives", 3, all_collectives); }

CASE(two_ranks_can_be_threads_of_one_process) {
  const auto id = new_id();
  std::thread other([&] { all_collectives({id, 1, 2}); });
  all_collectives({id, 0, 2});
  other.join();
}

template <typename T>
void sum_of_two(DataType type, T one, T two, T three, ncclComm_t* comms) {
  T values[2] = {one, two};
  CHECK_EQ(GroupStart(), 0);
  for (int r = 0; r < 2; ++r)
    CHECK_EQ(AllReduce(&values[r], &values[r], 1, type, nccl::kSum, comms[r], nullptr), 0);
  CHECK_EQ(GroupEnd(), 0);
  CHECK(values[0] == three && values[1] == three);
}

CASE(sums_are_right_in_every_type_and_a_thread_can_hold_two_ranks_in_one_group) {
  ncclComm_t comms[2] = {};
  CHECK_EQ(CommInitAll(comms, 2, nullptr), 0);
  sum_of_two<std::int8_t>(nccl::kInt8, 100, 27, 127, comms);
  sum_of_two<std::uint8_t>(nccl::kUint8, 200, 55, 255, comms);
  sum_of_two<std::int32_t>(nccl::kInt32, -5, 3, -2, comms);
  sum_of_two<std::uint32_t>(nccl::kUint32, 5, 3, 8, comms);
  sum_of_two<std::int64_t>(nccl::kInt64, std::int64_t{1} << 40, 1, (std::int64_t{1} << 40) + 1, comms);
  sum_of_two<std::uint64_t>(nccl::kUint64, std::uint64_t{1} << 63, 1, (std::uint64_t{1} << 63) + 1, comms);
  sum_of_two<float>(nccl::kFloat32, 1.5f, 2.25f, 3.75f, comms);
  sum_of_two<double>(nccl::kFloat64, 1.5, 1e-9, 1.500000001, comms);
  sum_of_two<std::uint16_t>(nccl::kFloat16, 0x3c00, 0x4000, 0x4200, comms);   // 1 + 2 = 3
  sum_of_two<std::uint16_t>(nccl::kFloat16, 0x7bff, 0x7bff, 0x7c00, comms);   // overflow is infinity
  sum_of_two<std::uint16_t>(nccl::kFloat16, 0x0001, 0x0001, 0x0002, comms);   // subnormals
  sum_of_two<std::uint16_t>(nccl::kBfloat16, 0x3f80, 0x4000, 0x4040, comms);  // 1 + 2 = 3
  sum_of_two<std::uint8_t>(nccl::kFloat8e4m3, 0x38, 0x40, 0x44, comms);       // 1 + 2 = 3
  sum_of_two<std::uint8_t>(nccl::kFloat8e5m2, 0x3c, 0x40, 0x42, comms);       // 1 + 2 = 3
  for (auto comm : comms) CHECK_EQ(CommDestroy(comm), 0);
}

ROLE(exchange_messages) {
  auto comm = joined(me);
  const int next = (me.rank + 1) % me.ranks, previous = (me.rank + me.ranks - 1) % me.ranks;
  const std::size_t bytes = 3'000'000;  // more than the pair's ring holds
  const auto out = pattern(bytes, static_cast<unsigned>(me.rank));
  std::vector<unsigned char> in(bytes), in_small(10), to_self(100);
  CHECK_EQ(GroupStart(), 0);
  CHECK_EQ(Send(out.data(), bytes, nccl::kUint8, next, comm, nullptr), 0);
  CHECK_EQ(Send(out.data(), 10, nccl::kUint8, next, comm, nullptr), 0);
  CHECK_EQ(Recv(in.data(), bytes, nccl::kUint8, previous, comm, nullptr), 0);
  CHECK_EQ(Recv(in_small.data(), 10, nccl::kUint8, previous, comm, nullptr), 0);
  CHECK_EQ(Send(out.data(), 100, nccl::kUint8, me.rank, comm, nullptr), 0);
  CHECK_EQ(Recv(to_self.data(), 100, nccl::kUint8, me.rank, comm, nullptr), 0);
  CHECK_EQ(GroupEnd(), 0);
  const auto expected = pattern(bytes, static_cast<unsigned>(previous));
  CHECK(in == expected);
  CHECK(std::equal(in_small.begin(), in_small.end(), expected.begin()));
  CHECK(std::equal(to_self.begin(), to_self.end(), out.begin()));
  CHECK_EQ(CommDestroy(comm), 0);
}

CASE(sends_and_receives_of_a_group_go_round_a_ring) {
  with_ranks("exchange_messages", 3, role_exchange_messages);
}

CASE(nothing_moves_before_the_outermost_group_ends) {
  ncclComm_t comms[2] = {};
  CHECK_EQ(CommInitAll(comms, 2, nullptr), 0);
  int sent = 42, got = 0;
  CHECK_EQ(GroupStart(), 0);
  CHECK_EQ(GroupStart(), 0);
  CHECK_EQ(Broadcast(&sent, &sent, 4, nccl::kUint8, 0, comms[0], nullptr), 0);
  CHECK_EQ(Broadcast(nullptr, &got, 4, nccl::kUint8, 0, comms[1], nullptr), 0);
  CHECK_EQ(GroupEnd(), 0);
  CHECK_EQ(got, 0);
  CHECK_EQ(GroupEnd(), 0);
  CHECK_EQ(got, 42);
  CHECK_EQ(GroupEnd(), nccl::kInvalidUsage);
  for (auto comm : comms) CHECK_EQ(CommDestroy(comm), 0);
}

ROLE(split) {
  auto comm = joined(me);
  ncclComm_t half = nullptr;
  CHECK_EQ(CommSplit(comm, me.rank == 2 ? -1 : 7, -me.rank, &half, nullptr), 0);
  CHECK((half == nullptr) == (me.rank == 2));
  if (half != nullptr) {
    int count = 0, rank = -1, sum = me.rank + 1;
    CHECK_EQ(CommCount(half, &count), 0);
    CHECK_EQ(count, 2);
    CHECK_EQ(CommUserRank(half, &rank), 0);
    CHECK_EQ(rank, 1 - me.rank);
    CHECK_EQ(AllReduce(&sum, &sum, 1, nccl::kInt32, nccl::kSum, half, nullptr), 0);
    CHECK_EQ(sum, 3);
    CHECK_EQ(CommDestroy(half), 0);
  }
  CHECK_EQ(CommDestroy(comm), 0);
}

CASE(a_communicator_can_be_split) { with_ranks("split", 3, role_split); }

}  // namespace emulator::test
