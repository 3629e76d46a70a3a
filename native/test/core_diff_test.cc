// The elements that differ are found, all of them and no other, whatever the threads, the memory and the places of the pairs.
#include <algorithm>
#include <cstring>
#include <future>

#include "core/element_changes.h"
#include "core/sparse_diff.h"
#include "temporary_file.h"

namespace {

using namespace weightcast;
using Pairs = SparseDiff::Result;

/// What a loop over the elements says.
std::vector<std::uint32_t> expected_changes(const Content& base, const Content& now, std::uint64_t base_offset,
                                            std::uint64_t new_offset, std::uint64_t length,
                                            std::uint32_t width) {
  std::vector<std::uint32_t> changed;
  for (std::uint64_t at = 0; at < length; at += width) {
    if (std::memcmp(&base[base_offset + at], &now[new_offset + at], width) != 0) {
      changed.push_back(std::uint32_t(at / width));
    }
  }
  return changed;
}

void every_way_to_compare_finds_the_same() {
  TestRandom random(1);
  std::vector<ElementChanges::Find> ways{ElementChanges::portable()};
  if (ElementChanges::accelerated() != nullptr) ways.push_back(ElementChanges::accelerated());
  for (unsigned shift = 0; shift < 4; ++shift) {
    for (std::size_t elements = 0; elements < 300; elements += 1 + elements / 20) {
      const std::size_t length = elements << shift;
      for (const unsigned changes : {0, 1, 7, 400}) {
        // One byte more than needed: what lies behind the end is not looked at.
        const Content base = random.bytes(length + 1);
        Content now = base;
        now[length] ^= 1;
        for (unsigned i = 0; i < changes && length > 0; ++i) now[random.below(length)] ^= 1 + i % 255;
        const auto expected = expected_changes(base, now, 0, 0, length, 1u << shift);
        for (const auto find : ways) {
          std::vector<std::uint32_t> found(elements + 1, 77);
          const auto count = find(base.data(), now.data(), length, shift, found.data());
          CORE_CHECK(count == expected.size() && found[elements] == 77);
          CORE_CHECK(std::equal(expected.begin(), expected.end(), found.begin()));
        }
      }
    }
  }
}

Outcome<Pairs> run(SparsePlan plan, bool stop = false) {
  std::promise<Outcome<Pairs>> promise;
  auto job = SparseDiff::begin(std::move(plan), [](std::uint64_t) {},
                               [&](Outcome<Pairs> pairs) { promise.set_value(std::move(pairs)); });
  if (stop) job->request_stop();
  auto pairs = promise.get_future().get();
  CORE_CHECK(job->wait_stopped(Deadline::after(10'000)));
  return pairs;
}

SparsePlan plan_of(TemporaryFolder& folder, const std::string& base, const std::string& now,
                   std::vector<DiffPair> pairs, std::uint64_t limit = ~std::uint64_t{0}) {
  static int number = 0;
  SparsePlan plan;
  plan.files = {base, now};
  plan.file_sizes = {content_of(base).size(), content_of(now).size()};
  plan.pairs = std::move(pairs);
  plan.threads = 3;
  plan.limits.assign(plan.pairs.size(), limit);
  plan.indices_path = folder.path("indices" + std::to_string(number));
  plan.values_path = folder.path("values" + std::to_string(number++));
  plan.memory_bytes = SparsePlan::kLeastMemory;
  return plan;
}

struct Checkpoints {
  Checkpoints() : base(TestRandom(2).bytes(6'000'000)), now(base) {
    now.insert(now.begin(), 13, 0);  // the new one begins 13 bytes later
    TestRandom random(3);
    for (int i = 0; i < 40'000; ++i) now[13 + random.below(base.size())] ^= 1 << i % 8;
    base_path = folder.put("base", base);
    new_path = folder.put("new", now);
  }

  TemporaryFolder folder;
  Content base, now;
  std::string base_path, new_path;
};

/// Pairs of all widths, of no and of many pieces, at odd places.
std::vector<DiffPair> pairs_of_all_widths() {
  std::vector<DiffPair> pairs;
  std::uint64_t at = 0;
  for (const std::uint64_t elements : {1u, 0u, 31u, 100'000u, 64u, 250'000u}) {
    for (const std::uint32_t width : {2u, 8u, 1u, 4u}) {
      pairs.push_back({0, at, 1, at + 13, elements * width, width});
      at += elements * width;
    }
  }
  CORE_CHECK(at < 6'000'000);
  return pairs;
}

void expect_spooled(const Checkpoints& files, const SparsePlan& plan, const Pairs& results) {
  const Content indices = content_of(plan.indices_path), values = content_of(plan.values_path);
  std::uint64_t indices_end = 0, values_end = 0;
  for (std::size_t i = 0; i < plan.pairs.size(); ++i) {
    const auto& [base_file, base_offset, new_file, new_offset, length, width] = plan.pairs[i];
    const auto changed = expected_changes(files.base, files.now, base_offset, new_offset, length, width);
    CORE_CHECK(results[i].dense == (changed.size() > plan.limits[i]));
    if (results[i].dense) continue;
    CORE_CHECK(results[i].changed == changed.size());
    CORE_CHECK(results[i].indices_offset == indices_end && results[i].values_offset == values_end);
    for (const auto index : changed) {
      CORE_CHECK(std::memcmp(&indices[indices_end], &index, 4) == 0);
      CORE_CHECK(std::memcmp(&values[values_end], &files.now[new_offset + index * width], width) == 0);
      indices_end += 4;
      values_end += width;
    }
  }
  CORE_CHECK(indices.size() == indices_end && values.size() == values_end);
}

}  // namespace

int main() {
  every_way_to_compare_finds_the_same();

  Checkpoints files;
  for (const std::uint64_t limit : {~std::uint64_t{0}, std::uint64_t{1'500}, std::uint64_t{0}}) {
    for (const std::uint64_t memory : {SparsePlan::kLeastMemory, 64 * SparsePlan::kLeastMemory}) {
      auto plan = plan_of(files.folder, files.base_path, files.new_path, pairs_of_all_widths(), limit);
      plan.memory_bytes = memory;
      const auto results = run(plan);
      CORE_CHECK(results.index() == 0);
      expect_spooled(files, plan, std::get<0>(results));
    }
  }

  const auto failed_with = [](const Outcome<Pairs>& outcome, const char* code, const SparsePlan& plan) {
    CORE_CHECK(outcome.index() == 1 && std::get<1>(outcome).is(code));
    CORE_CHECK(!exists(plan.values_path));
  };
  auto smaller = plan_of(files.folder, files.base_path, files.new_path, pairs_of_all_widths());
  smaller.file_sizes[0] -= 1;
  failed_with(run(smaller), code::kCheckpointChanged, smaller);

  auto present = plan_of(files.folder, files.base_path, files.new_path, pairs_of_all_widths());
  std::ofstream(present.indices_path) << "of somebody else";
  failed_with(run(present), code::kFileWrite, present);
  CORE_CHECK(content_of(present.indices_path).size() == 16);

  const std::vector<DiffPair> often(20'000, {0, 0, 1, 13, 6'000'000, 2});
  auto cancelled = plan_of(files.folder, files.base_path, files.new_path, often, 1'000'000'000);
  failed_with(run(cancelled, true), code::kClosed, cancelled);
  CORE_CHECK(!exists(cancelled.indices_path));
  return 0;
}
