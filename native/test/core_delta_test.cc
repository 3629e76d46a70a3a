// What a delta makes of the version before is the new version, byte for byte; a delta that was damaged makes nothing.
#include <cstring>
#include <future>

#include "core/delta_apply.h"
#include "core/delta_block.h"
#include "core/delta_encode.h"
#include "core/sparse_diff.h"
#include "temporary_file.h"

namespace {

using namespace weightcast;

/// Of the system; the tests are built where there is one.
std::shared_ptr<const ZstdApi> zstd() {
  static const auto api = ZstdApi::open(Variables::now());
  return api;
}

template <class Job, class Result, class Plan>
Outcome<Result> run(Plan plan, bool stop = false) {
  std::promise<Outcome<Result>> promise;
  auto job = Job::begin(std::move(plan), [](std::uint64_t) {},
                        [&](Outcome<Result> outcome) { promise.set_value(std::move(outcome)); });
  if (stop) job->request_stop();
  auto outcome = promise.get_future().get();
  CORE_CHECK(job->wait_stopped(Deadline::after(10'000)));
  return outcome;
}

/// In parts of many lengths; what is wrong, or null.
const char* apply(DeltaBlockDecoder& decoder, std::span<const std::uint8_t> bytes, std::size_t changes,
                  unsigned width, Content& block) {
  if (const auto* wrong = decoder.begin(bytes, changes, width, block.size())) return wrong;
  for (std::size_t at = 0, elements = 1; at < block.size(); elements = elements * 7 % 1'009 + 1) {
    const auto length = std::min(block.size() - at, elements * width);
    decoder.apply({block.data() + at, length});
    at += length;
  }
  return decoder.finish();
}

void blocks_come_back(std::uint32_t width, unsigned changes, std::uint64_t seed, const ZstdApi* api) {
  TestRandom random(seed);
  const Content base = random.bytes(width * 5'000);
  Content now = base;
  for (unsigned i = 0; i < changes; ++i) now[random.below(now.size())] += std::uint8_t(1 + random.below(2));
  DeltaBlockEncoder encoder(api);
  const auto changed = encoder.encode(base.data(), now.data(), now.size(), width);
  CORE_CHECK((changed == 0) == encoder.bytes().empty() && changed <= changes);
  if (changed == 0) return;
  DeltaBlockDecoder decoder(api);
  Content block = base;
  CORE_CHECK(apply(decoder, encoder.bytes(), changed, width, block) == nullptr && block == now);

  // Whatever is wrong with the bytes is seen, or gives another block: nothing beside it is read or written.
  for (int i = 0; i < 60; ++i) {
    Content damaged(encoder.bytes().begin(), encoder.bytes().end());
    if (i % 3 == 0) damaged.resize(random.below(damaged.size()));
    if (i % 3 != 0) damaged[random.below(i % 2 == 0 ? std::min<std::size_t>(40, damaged.size()) : damaged.size())] ^= 1 << i % 8;
    Content target = base;
    const auto* wrong = apply(decoder, damaged, changed, width, target);
    CORE_CHECK(wrong != nullptr || i % 3 != 0);
  }
  CORE_CHECK(apply(decoder, encoder.bytes(), 5'001, width, block) != nullptr);
}

/// Three tensors that changed here and there, not at all, and everywhere, and one that is new.
struct Versions {
  static constexpr std::uint64_t kFew = 3'000'000, kSame = 1'500'008, kAll = 1'200'000, kNew = 70'001;

  explicit Versions(unsigned threads) {
    TestRandom random(5);
    base = random.bytes(kFew + kSame + kAll);
    now = base;
    for (int i = 0; i < 20'000; ++i) now[2 * random.below(kFew / 2)] += 1;
    const Content other = random.bytes(kAll + kNew);
    std::copy(other.begin(), other.begin() + kAll, now.begin() + kFew + kSame);
    now.insert(now.end(), other.begin() + kAll, other.end());
    encode.files = {folder.put("base", base), folder.put("new", now)};
    encode.file_sizes = {base.size(), now.size()};
    encode.pairs = {{0, 0, 1, 0, kFew, 2},
                    {0, kFew, 1, kFew, kSame, 8},
                    {0, kFew + kSame, 1, kFew + kSame, kAll, 4},
                    {DiffPair::kNoBase, 0, 1, base.size(), kNew, 1}};
    encode.threads = threads;
    encode.delta_path = folder.path("delta" + std::to_string(threads));
    encode.sync = threads == 1;
    encode.zstd = zstd();
  }

  ApplyPlan apply_plan() {
    ApplyPlan plan;
    static_cast<DiffPlan&>(plan) = encode;
    plan.files.pop_back();
    plan.file_sizes.pop_back();
    plan.targets = {{folder.path("a"), {1, 2, 3}, 3 + kFew + kNew}, {folder.path("b"), {}, kSame + kAll}};
    plan.places = {{0, 3}, {1, kAll}, {1, 0}, {0, 3 + kFew}};
    plan.delta_path = encode.delta_path;
    plan.sync = false;
    plan.zstd = zstd();
    return plan;
  }

  void expect_applied(const ApplyPlan& plan, const std::vector<Digest>& digests) const {
    for (std::size_t i = 0; i < plan.pairs.size(); ++i) {
      const auto& [target, offset] = plan.places[i];
      const Content written = content_of(plan.targets[target].path);
      CORE_CHECK(written.size() == plan.targets[target].size);
      const auto* expected = &now[plan.pairs[i].new_offset];
      CORE_CHECK(std::memcmp(&written[offset], expected, plan.pairs[i].length) == 0);
      Sha256 hash(Sha256::portable());
      hash.update(expected, plan.pairs[i].length);
      CORE_CHECK(hash.finish() == digests[i]);
    }
    CORE_CHECK(content_of(plan.targets[0].path)[2] == 3);
  }

  TemporaryFolder folder;
  Content base, now;
  EncodePlan encode;
};

void expect_refused(ApplyPlan plan, const char* error_code) {
  const auto outcome = run<DeltaApply, std::vector<Digest>>(plan);
  CORE_CHECK(outcome.index() == 1 && std::get<1>(outcome).is(error_code));
  for (const auto& target : plan.targets) CORE_CHECK(!exists(target.path));
}

void versions_come_back(bool compress) {
  Content first;
  for (unsigned threads = 1; threads <= 3; ++threads) {
    Versions versions(threads);
    if (!compress) versions.encode.zstd = nullptr;
    const auto encoded = run<DeltaEncode, Encoded>(versions.encode);
    CORE_CHECK(encoded.index() == 0);
    const auto& [file, stored, changed] = std::get<0>(encoded);
    const Content delta = content_of(versions.encode.delta_path);
    Sha256 hash;
    hash.update(delta.data(), delta.size());
    CORE_CHECK(file.size == delta.size() && file.digest == hash.finish());
    CORE_CHECK(stored[1] == 0 && changed[1] == 0);
    // Uncompressed it is four bytes a change.
    CORE_CHECK(stored[0] < Versions::kFew / (compress ? 60 : 35) && changed[0] > 19'000);
    CORE_CHECK(stored[2] == Versions::kAll && stored[3] == Versions::kNew);
    if (first.empty()) first = delta;
    CORE_CHECK(first == delta);

    auto plan = versions.apply_plan();
    const auto applied = run<DeltaApply, std::vector<Digest>>(plan);
    CORE_CHECK(applied.index() == 0);
    versions.expect_applied(plan, std::get<0>(applied));
    for (const auto& target : plan.targets) ::unlink(target.path.c_str());
  }
}

void a_tensor_that_somebody_else_has_put_there_is_left_out() {
  Versions versions(2);
  CORE_CHECK((run<DeltaEncode, Encoded>(versions.encode).index() == 0));
  auto plan = versions.apply_plan();
  plan.targets.pop_back();
  plan.places[1].target = plan.places[2].target = ApplyPlace::kNowhere;
  const auto applied = run<DeltaApply, std::vector<Digest>>(plan);
  CORE_CHECK(applied.index() == 0);
  const auto& digests = std::get<0>(applied);
  CORE_CHECK(digests[1] == Digest{} && digests[2] == Digest{});
  for (const std::size_t i : {0, 3}) {
    const Content written = content_of(plan.targets[0].path);
    const auto* expected = &versions.now[plan.pairs[i].new_offset];
    CORE_CHECK(std::memcmp(&written[plan.places[i].offset], expected, plan.pairs[i].length) == 0);
    Sha256 hash;
    hash.update(expected, plan.pairs[i].length);
    CORE_CHECK(hash.finish() == digests[i]);
  }
}

void a_damaged_delta_leaves_nothing_behind() {
  Versions versions(2);
  CORE_CHECK((run<DeltaEncode, Encoded>(versions.encode).index() == 0));
  const Content delta = content_of(versions.encode.delta_path);
  const auto apply = [&](const Content& bytes, const char* name) {
    auto plan = versions.apply_plan();
    plan.delta_path = versions.folder.put(name, bytes);
    return plan;
  };
  for (const std::size_t length : {std::size_t{0}, std::size_t{63}, delta.size() / 2, delta.size() - 1}) {
    expect_refused(apply({delta.begin(), delta.begin() + std::ptrdiff_t(length)}, "cut"), code::kDeltaInvalid);
  }
  // Every byte of the header, of the end, and of the index before it.
  for (std::size_t i = 0; i < 160; ++i) {
    Content damaged = delta;
    const std::size_t at = i < 32 ? i : delta.size() - 1 - (i - 32);
    damaged[at] ^= 0x11;
    auto plan = apply(damaged, "damaged");
    plan.sync = false;
    expect_refused(plan, code::kDeltaInvalid);
  }
  Content block = delta;
  block[32] = 9;  // the first block's width of gaps
  expect_refused(apply(block, "block"), code::kDeltaInvalid);

  auto other = versions.apply_plan();
  other.pairs[0].element_bytes = 4;
  expect_refused(other, code::kDeltaInvalid);
  auto without = versions.apply_plan();
  without.zstd = nullptr;
  expect_refused(without, code::kZstdNotFound);
  auto smaller = versions.apply_plan();
  smaller.file_sizes[0] -= 1;
  expect_refused(smaller, code::kCheckpointChanged);
}

void a_job_that_is_stopped_leaves_nothing_behind() {
  Versions versions(2);
  CORE_CHECK((run<DeltaEncode, Encoded>(versions.encode).index() == 0));
  ::unlink(versions.encode.delta_path.c_str());
  auto encode = versions.encode;
  encode.pairs.assign(3'000, encode.pairs[0]);
  CORE_CHECK((run<DeltaEncode, Encoded>(encode, true).index() == 1));
  CORE_CHECK(!exists(encode.delta_path));
}

}  // namespace

int main() {
  for (const std::uint32_t width : {1u, 2u, 4u, 8u}) {
    for (const unsigned changes : {0u, 1u, 3u, 60u, 500u, 60'000u}) {
      blocks_come_back(width, changes, width + changes, zstd().get());
      blocks_come_back(width, changes, width + changes, nullptr);
    }
  }
  versions_come_back(true);
  versions_come_back(false);
  a_tensor_that_somebody_else_has_put_there_is_left_out();
  a_damaged_delta_leaves_nothing_behind();
  a_job_that_is_stopped_leaves_nothing_behind();
  return 0;
}
