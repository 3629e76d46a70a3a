// Files are written byte for byte as planned, however the work is cut; whatever a call of the system fails with
// is told, and nothing stays open.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <string>
#include <vector>

#include "core/write_job.h"
#include "core_check.h"
#include "core_faults.h"
#include "temporary_file.h"

namespace {

using namespace weightcast;
namespace fs = std::filesystem;

constexpr std::size_t kSourceBytes = std::size_t(12) << 20;

class Folder {
 public:
  std::string source() const { return folder_.path("source"); }
  std::string target(int index) const { return folder_.path("target-" + std::to_string(index)); }
  const Content& bytes() const { return bytes_; }

 private:
  TemporaryFolder folder_;
  Content bytes_ = TestRandom(1).bytes(kSourceBytes);
  const std::string source_ = folder_.put("source", bytes_);
};

/// Targets of ranges of all sizes, empty ones too, from the file and from host bytes.
WritePlan make_plan(const Folder& folder, unsigned seed) {
  WritePlan plan{};
  plan.files = {folder.source()};
  plan.file_sizes = {kSourceBytes};
  plan.host_bytes.assign(folder.bytes().begin(), folder.bytes().begin() + 5000);
  plan.digest = true;
  plan.threads = 1 + seed % 3;
  std::uint32_t random = seed;
  const auto below = [&random](std::uint32_t limit) {
    random = random * 1664525 + 1013904223;
    return std::uint64_t(random >> 8) % limit;
  };
  for (int target = 0; target < 5; ++target) {
    plan.targets.push_back(folder.target(target));
    const auto count = target == 3 ? 0 : below(40);
    std::uint64_t next = below(1000);
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto kind = below(10);
      const std::uint64_t length = kind == 0 ? 0 : kind == 1 && i < 20 ? below(10u << 20) : below(30'000);
      if (kind == 2) {
        plan.ranges.push_back({RangeKind::host, 0, below(1000), length % 4000});
      } else {
        if (next + length > kSourceBytes) next = 0;
        plan.ranges.push_back({RangeKind::file, 0, next, length});
        next += length;
      }
    }
    plan.target_ranges.push_back(std::uint32_t(count));
  }
  return plan;
}

Content bytes_of(const WritePlan& plan, const Range& range, const Content& file) {
  const auto& from = range.kind == RangeKind::host ? plan.host_bytes : file;
  return {from.begin() + long(range.offset), from.begin() + long(range.offset + range.length)};
}

Digest digest_of(const Content& bytes) {
  Sha256 hash;
  hash.update(bytes.data(), bytes.size());
  return hash.finish();
}

std::size_t open_descriptors() {
  return std::size_t(std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
}

Outcome<Written> run(WritePlan plan) {
  std::promise<Outcome<Written>> promise;
  const auto job = WriteJob::begin(std::move(plan), [](std::uint64_t) {},
                                   [&](Outcome<Written> outcome) { promise.set_value(std::move(outcome)); });
  auto outcome = promise.get_future().get();
  CORE_CHECK(job->wait_stopped(Deadline::after(10'000)));
  return outcome;
}

void remove_targets(const WritePlan& plan) {
  for (const auto& path : plan.targets) fs::remove(path);
}

void expect_written(const Folder& folder, const WritePlan& plan) {
  const auto outcome = run(plan);
  CORE_CHECK(outcome.index() == 0);
  const auto& digests = std::get<0>(outcome).digests;
  CORE_CHECK(digests.size() == (plan.digest ? plan.ranges.size() : 0));
  std::size_t range = 0;
  for (std::size_t target = 0; target < plan.targets.size(); ++target) {
    Content expected;
    for (std::uint32_t i = 0; i < plan.target_ranges[target]; ++i, ++range) {
      const auto part = bytes_of(plan, plan.ranges[range], folder.bytes());
      if (plan.digest) CORE_CHECK(digests[range] == digest_of(part));
      expected.insert(expected.end(), part.begin(), part.end());
    }
    CORE_CHECK(content_of(plan.targets[target]) == expected);
  }
  CORE_CHECK(range == plan.ranges.size());
  remove_targets(plan);
}

void whatever_the_cut_the_bytes_are_those_of_the_plan(const Folder& folder) {
  for (unsigned seed = 1; seed <= 4; ++seed) {
    auto plan = make_plan(folder, seed);
    faults().short_writes = seed % 2 == 0;
    expect_written(folder, plan);
    plan.digest = false;
    expect_written(folder, plan);
    faults().reset();
  }
}

void a_file_system_that_can_not_reserve_gets_every_byte_in_order(const Folder& folder) {
  auto plan = make_plan(folder, 7);
  plan.threads = 3;
  CORE_CHECK(plan.ranges.size() > 20);
  faults().fallocate = EOPNOTSUPP;
  for (const bool digest : {true, false}) {
    plan.digest = digest;
    expect_written(folder, plan);
    CORE_CHECK(faults().in_order);
  }
  faults().reset();
}

void expect_failure(const WritePlan& plan, const char* call, int number, const char* name) {
  const auto before = open_descriptors();
  const auto outcome = run(plan);
  faults().reset();
  CORE_CHECK(outcome.index() == 1);
  const auto& error = std::get<1>(outcome);
  CORE_CHECK(error.is(code::kFileWrite));
  const auto& details = error.details();
  CORE_CHECK(std::get<std::string>(details.at("call")) == call);
  CORE_CHECK(std::get<std::string>(details.at("errnoName")) == name);
  CORE_CHECK(std::get<double>(details.at("errno")) == number);
  const auto& path = std::get<std::string>(details.at("path"));
  CORE_CHECK(std::find(plan.targets.begin(), plan.targets.end(), path) != plan.targets.end());
  CORE_CHECK(std::string(error.what()).find(path) != std::string::npos);
  CORE_CHECK(open_descriptors() == before);
  remove_targets(plan);
}

void what_fails_is_told_and_nothing_stays_open(const Folder& folder) {
  auto plan = make_plan(folder, 7);
  plan.sync = true;
  faults().fallocate = ENOSPC;
  expect_failure(plan, "fallocate", ENOSPC, "ENOSPC");
  for (const std::uint64_t after : {0, 1, 3'000'000}) {
    faults().pwrite = EDQUOT;
    faults().pwrite_after = after;
    expect_failure(plan, "pwrite", EDQUOT, "EDQUOT");
  }
  faults().fdatasync = EIO;
  expect_failure(plan, "fdatasync", EIO, "EIO");
  faults().close = EDQUOT;
  expect_failure(plan, "close", EDQUOT, "EDQUOT");

  std::ofstream(plan.targets[2]) << "somebody's";
  const auto before = open_descriptors();
  const auto exists = run(plan);
  CORE_CHECK(exists.index() == 1);
  CORE_CHECK(std::get<std::string>(std::get<1>(exists).details().at("errnoName")) == "EEXIST");
  CORE_CHECK(content_of(plan.targets[2]).size() == 10);
  CORE_CHECK(open_descriptors() == before);
  remove_targets(plan);
}

void every_target_is_flushed_once_when_asked(const Folder& folder) {
  auto plan = make_plan(folder, 7);
  expect_written(folder, plan);
  CORE_CHECK(faults().syncs == 0);
  plan.sync = true;
  expect_written(folder, plan);
  CORE_CHECK(faults().syncs == int(plan.targets.size()));
  faults().reset();
}

void a_source_that_changes_is_noticed(const Folder& folder) {
  auto plan = make_plan(folder, 7);
  plan.file_sizes[0] -= 1;
  const auto outcome = run(plan);
  CORE_CHECK(outcome.index() == 1 && std::get<1>(outcome).is(code::kCheckpointChanged));
  CORE_CHECK(!fs::exists(plan.targets[0]));

  plan.file_sizes[0] += 1;
  const auto source = folder.source();
  faults().touched = source.c_str();
  const auto touched = run(plan);
  faults().reset();
  CORE_CHECK(touched.index() == 1 && std::get<1>(touched).is(code::kCheckpointChanged));
  CORE_CHECK(std::get<std::string>(std::get<1>(touched).details().at("path")) == source);
  remove_targets(plan);
}

/// A disk that is gone hangs in fdatasync.
void a_job_that_hangs_is_settled_when_it_is_stopped(const Folder& folder) {
  auto plan = make_plan(folder, 7);
  plan.sync = true;
  faults().hang_in_sync = true;
  const auto before = open_descriptors();
  std::promise<Outcome<Written>> promise;
  auto job = WriteJob::begin(plan, nullptr,
                             [&](Outcome<Written> outcome) { promise.set_value(std::move(outcome)); });
  while (faults().syncs == 0) std::this_thread::yield();
  job->request_stop();
  auto future = promise.get_future();
  CORE_CHECK(future.wait_for(std::chrono::seconds(60)) == std::future_status::ready);
  const auto stopped = future.get();
  CORE_CHECK(stopped.index() == 1 && std::get<1>(stopped).is(code::kClosed));
  CORE_CHECK(!job->wait_stopped(Deadline::after(0)));
  // What comes back is settled no second time: the promise would throw.
  faults().hang_in_sync = false;
  CORE_CHECK(job->wait_stopped(Deadline::after(10'000)));
  CORE_CHECK(open_descriptors() == before);
  faults().reset();
  remove_targets(plan);
}

void a_plan_that_contradicts_itself_is_refused(const Folder& folder) {
  const auto refused = [&folder](auto change) {
    auto plan = make_plan(folder, 7);
    change(plan);
    const auto outcome = capture<Unit>([&] { return target_extents(plan), Unit{}; });
    CORE_CHECK(outcome.index() == 1 && std::get<1>(outcome).is(code::kArgument));
  };
  refused([](auto& plan) { plan.target_ranges[0] += 1; });
  refused([](auto& plan) { plan.target_ranges[4] -= 1; });
  refused([](auto& plan) { plan.target_ranges[0] = ~0u; });
  refused([](auto& plan) { plan.targets.pop_back(); });
  refused([](auto& plan) { plan.file_sizes.clear(); });
  refused([](auto& plan) { plan.ranges[0] = {RangeKind::file, 1, 0, 0}; });
  refused([](auto& plan) { plan.ranges[0] = {RangeKind::file, 0, ~std::uint64_t{0}, 2}; });
  refused([](auto& plan) { plan.ranges[0] = {RangeKind::host, 0, 4'999, 2}; });
  refused([](auto& plan) { plan.ranges[0] = {RangeKind::device, 0, 0, 0}; });
  refused([](auto& plan) {
    plan.devices.push_back({nullptr, 1, 10});
    plan.ranges[0] = {RangeKind::device, 0, 10, 1};
  });
  refused([](auto& plan) {  // no file is so large
    plan.devices.push_back({nullptr, 1, ~std::uint64_t{0}});
    plan.ranges[0] = plan.ranges[1] = {RangeKind::device, 0, 0, ~std::uint64_t{0}};
  });
}

}  // namespace

int main() {
  const Folder folder;
  whatever_the_cut_the_bytes_are_those_of_the_plan(folder);
  a_file_system_that_can_not_reserve_gets_every_byte_in_order(folder);
  every_target_is_flushed_once_when_asked(folder);
  what_fails_is_told_and_nothing_stays_open(folder);
  a_source_that_changes_is_noticed(folder);
  a_job_that_hangs_is_settled_when_it_is_stopped(folder);
  a_plan_that_contradicts_itself_is_refused(folder);
  return 0;
}
