// A digest job of many tensors on several threads gives what each tensor gives alone, and ends when it is told to.
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <future>
#include <string>
#include <vector>

#include "core/hash_job.h"
#include "core_check.h"
#include "temporary_file.h"

namespace {

using namespace weightcast;
using Digests = Outcome<std::vector<Digest>>;

constexpr std::size_t kFileBytes = std::size_t(4) << 20;

struct Source {
  TemporaryFolder folder;
  Content bytes = TestRandom(1).bytes(kFileBytes);
  std::string path = folder.put("source", bytes);

  Digest expected(const HashSegment& segment) const {
    Sha256 hash(Sha256::portable());
    for (std::uint64_t block = 0; block < segment.blocks; ++block) {
      hash.update(bytes.data() + segment.offset + block * segment.stride_bytes, segment.block_bytes);
    }
    return hash.finish();
  }
};

Digests run(HashPlan plan, bool stop) {
  std::promise<Digests> promise;
  auto job = HashJob::begin(std::move(plan), [](std::uint64_t) {},
                            [&](Digests digests) { promise.set_value(std::move(digests)); });
  if (stop) job->request_stop();
  auto digests = promise.get_future().get();
  CORE_CHECK(job->wait_stopped(Deadline::after(10'000)));
  return digests;
}

HashPlan plan_of(const Source& file, const std::vector<HashSegment>& segments, unsigned threads) {
  return {{file.path}, segments, std::vector<std::uint32_t>(segments.size(), 1), threads};
}

/// Opening a pipe that nobody writes to hangs, as the files of a dead server do.
void a_job_that_hangs_in_a_file_is_settled_when_it_is_stopped() {
  const TemporaryFolder folder;
  const std::string pipe = folder.path("pipe");
  CORE_CHECK(::mkfifo(pipe.c_str(), 0600) == 0);
  std::promise<Digests> promise;
  auto job = HashJob::begin({{pipe}, {{0, 0, 1, 1, 1}}, {1}, 2}, nullptr,
                            [&](Digests digests) { promise.set_value(std::move(digests)); });
  job->request_stop();
  auto future = promise.get_future();
  CORE_CHECK(future.wait_for(std::chrono::seconds(60)) == std::future_status::ready);
  const auto stopped = future.get();
  CORE_CHECK(stopped.index() == 1 && std::get<1>(stopped).is(code::kClosed));
  CORE_CHECK(!job->wait_stopped(Deadline::after(0)));
  // What comes back is settled no second time: the promise would throw.
  const int writer = ::open(pipe.c_str(), O_RDWR | O_NONBLOCK);
  CORE_CHECK(writer >= 0 && job->wait_stopped(Deadline::after(10'000)));
  ::close(writer);
}

void a_refused_thread_is_called_so() {
  // No address space has room for such a stack.
  pthread_attr_t usual, huge;
  CORE_CHECK(::pthread_getattr_default_np(&usual) == 0 && ::pthread_attr_init(&huge) == 0);
  CORE_CHECK(::pthread_attr_setstacksize(&huge, std::size_t(1) << 60) == 0);
  CORE_CHECK(::pthread_setattr_default_np(&huge) == 0);
  Crew crew;
  const auto refused = capture<Unit>([&] { return crew.start("wc-test", [] {}), Unit{}; });
  CORE_CHECK(::pthread_setattr_default_np(&usual) == 0);
  CORE_CHECK(refused.index() == 1 && std::get<1>(refused).is(code::kThreadRefused));
  CORE_CHECK(crew.wait(Deadline::after(0)));
}

}  // namespace

int main() {
  a_refused_thread_is_called_so();
  a_job_that_hangs_in_a_file_is_settled_when_it_is_stopped();

  const Source file;
  std::vector<HashSegment> segments;
  for (std::uint64_t i = 0; i < 60; ++i) {
    segments.push_back({0, i, i * i * 700 + 1, i * i * 700 + 1, 1});  // whole, up to 2.4 MB
    segments.push_back({0, i, 40 + i, 100 + i, 1 + i * 300});  // rows with gaps
    segments.push_back({0, i, 64 * i, 64 * i, i % 2});  // whole blocks, or nothing
  }
  for (unsigned threads = 1; threads <= 4; ++threads) {
    const auto digests = run(plan_of(file, segments, threads), false);
    CORE_CHECK(digests.index() == 0);
    for (std::size_t i = 0; i < segments.size(); ++i) {
      CORE_CHECK(std::get<0>(digests)[i] == file.expected(segments[i]));
    }
  }

  const std::vector<HashSegment> long_job(4'000, {0, 0, kFileBytes, kFileBytes, 1});
  const auto stopped = run(plan_of(file, long_job, 3), true);
  CORE_CHECK(stopped.index() == 1 && std::get<1>(stopped).is(code::kClosed));

  const auto beyond = run(plan_of(file, {{0, 1, kFileBytes, kFileBytes, 1}}, 2), false);
  CORE_CHECK(beyond.index() == 1 && std::get<1>(beyond).is(code::kCheckpointChanged));
  return 0;
}
