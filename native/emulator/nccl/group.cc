#include "nccl/group.h"

#include <thread>
#include <utility>
#include <vector>

#include "nccl/log.h"

namespace emulator::nccl {
namespace {

struct Init {
  std::shared_ptr<Communicator> communicator;
  std::function<void()> failed;
};

struct Batch {
  std::shared_ptr<Communicator> communicator;
  std::vector<Communicator::Launch> launches;
};

struct Group {
  int depth = 0;
  std::vector<Init> inits;
  std::vector<Batch> batches;
};

thread_local Group group;

Batch& batch_of(const std::shared_ptr<Communicator>& communicator) {
  for (auto& batch : group.batches) {
    if (batch.communicator == communicator) return batch;
  }
  return group.batches.emplace_back(Batch{communicator, {}});
}

/** All sends and receives of a batch on one stream become one operation, behind its collectives, on every
 * rank. */
std::vector<Communicator::Launch> merge_messages(std::vector<Communicator::Launch> launches) {
  std::vector<Communicator::Launch> merged, messages;
  for (auto& launch : launches) {
    if (launch.operation.kind != Kind::messages) {
      merged.push_back(std::move(launch));
      continue;
    }
    if (messages.empty()) {
      messages.push_back(std::move(launch));
    } else {
      auto& into = messages.front().operation.messages;
      into.insert(into.end(), launch.operation.messages.begin(), launch.operation.messages.end());
    }
  }
  for (auto& launch : messages) merged.push_back(std::move(launch));
  return merged;
}

/** Runs the jobs at the same time, because each may wait for another: several ranks can share one thread's
 * group. */
ncclResult_t run_together(std::vector<std::function<ncclResult_t()>> jobs) {
  std::vector<ncclResult_t> results(jobs.size(), kSuccess);
  std::vector<std::thread> threads;
  for (std::size_t i = 1; i < jobs.size(); ++i) {
    threads.emplace_back([&, i] { results[i] = jobs[i](); });
  }
  if (!jobs.empty()) results[0] = jobs[0]();
  for (auto& thread : threads) thread.join();
  ncclResult_t worst = kSuccess;
  for (const auto result : results) {
    if (result != kSuccess && (worst == kSuccess || worst == kInProgress)) worst = result;
  }
  return worst;
}

ncclResult_t start(const Init& init) {
  const auto result = init.communicator->start();
  if (result != kSuccess && result != kInProgress) init.failed();
  return result;
}

bool mixes_blocking_modes(const Group& ended) {
  int blocking = 0, other = 0;
  for (const auto& init : ended.inits) ++(init.communicator->blocking() ? blocking : other);
  for (const auto& batch : ended.batches) ++(batch.communicator->blocking() ? blocking : other);
  return blocking != 0 && other != 0;
}

}  // namespace

void group_start() { ++group.depth; }

void leak_group_depth() { ++group.depth; }

ncclResult_t group_end() {
  if (group.depth == 0) return fail(kInvalidUsage, "ncclGroupEnd: not in a group call.");
  if (--group.depth > 0) return kSuccess;
  const Group ended = std::exchange(group, Group{});
  if (mixes_blocking_modes(ended)) {
    for (const auto& init : ended.inits) init.failed();
    return fail(kInvalidUsage, "Blocking and nonblocking communicators are not allowed in the same group.");
  }
  std::vector<std::function<ncclResult_t()>> jobs;
  for (const auto& init : ended.inits) jobs.push_back([&init] { return start(init); });
  if (const auto result = run_together(std::move(jobs)); result != kSuccess && result != kInProgress)
    return result;
  jobs = {};
  for (const auto& batch : ended.batches) {
    jobs.push_back([&batch] { return batch.communicator->launch(merge_messages(batch.launches)); });
  }
  const auto launched = run_together(std::move(jobs));
  const bool pending = !ended.inits.empty() && !ended.inits.front().communicator->blocking();
  return launched == kSuccess && pending ? kInProgress : launched;
}

ncclResult_t submit_init(std::shared_ptr<Communicator> communicator, std::function<void()> failed) {
  Init init{std::move(communicator), std::move(failed)};
  if (group.depth == 0) return start(init);
  group.inits.push_back(std::move(init));
  return kSuccess;
}

ncclResult_t submit_operation(std::shared_ptr<Communicator> communicator, Operation operation,
                              cudaStream_t stream) {
  if (group.depth == 0) {
    std::vector<Communicator::Launch> launches;
    launches.push_back({std::move(operation), stream});
    return communicator->launch(std::move(launches));
  }
  batch_of(communicator).launches.push_back({std::move(operation), stream});
  return kSuccess;
}

}  // namespace emulator::nccl
