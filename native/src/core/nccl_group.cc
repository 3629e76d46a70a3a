#include "core/nccl_group.h"

namespace weightcast {
namespace {

/// An operation ends at most a second after its deadline, the abort included.
constexpr double kEndLimitMs = 800;

}  // namespace

std::string NcclGroup::who() const {
  return "rank " + std::to_string(rank_) + " of " + std::to_string(world_size_);
}

Details NcclGroup::details(const Watch& watch) const {
  return {{"operation", watch.operation}, {"rank", double(rank_)}, {"worldSize", double(world_size_)}};
}

void NcclGroup::fail(int result, const Watch& watch, const char* call) {
  const auto text = nccl().describe(result);
  repair_group_depth();  // after the description: it ends in an error of its own, and NCCL keeps only the
                         // last
  auto facts = details(watch);
  facts["ncclResult"] = double(result);
  if (auto remedy = nccl_remedy(result, text); !remedy.empty()) facts["remedy"] = std::move(remedy);
  throw Error(code::kNcclFailed, watch.operation + " failed on " + who() + ": " + call + ": " + text, facts);
}

void NcclGroup::expect(int result, const Watch& watch, const char* call) {
  if (result == nccl::kSuccess || result == nccl::kInProgress) return;
  fail(result, watch, call);
}

void NcclGroup::repair_group_depth() const noexcept {
  // A call that fails early can leave this thread inside a group, where later calls only queue (NCCL 2.23
  // on).
  for (int i = 0; i < 16 && nccl().group_end() != nccl::kInvalidUsage; ++i) {
  }
}

void NcclGroup::check(const Watch& watch) {
  if (session_.interrupt().raised()) {
    throw Error(code::kNcclAborted, watch.operation + " was aborted on " + who(), details(watch));
  }
  if (watch.deadline.passed()) {
    throw Error(code::kNcclTimeout,
                watch.operation + " did not end within " + std::to_string(long(watch.deadline.budget_ms())) +
                    " ms on " + who() + ": a rank does not take part",
                details(watch));
  }
}

int NcclGroup::async_error() const {
  int state = nccl::kSuccess;
  if (comm_ == nullptr) return state;
  const int result = nccl().async_error(comm_, &state);
  return result == nccl::kSuccess ? state : result;
}

void NcclGroup::settle(const Watch& watch) {
  Backoff backoff;
  for (;;) {
    const int state = async_error();
    if (state == nccl::kSuccess) return;
    if (state != nccl::kInProgress) fail(state, watch, "ncclCommGetAsyncError");
    check(watch);
    if (watch.meanwhile) watch.meanwhile();
    backoff.pause(session_.interrupt().bell);
  }
}

void NcclGroup::join(const Membership& membership, const Watch& watch) {
  world_size_ = membership.world_size;
  rank_ = membership.rank;
  NcclConfig config;
  expect(nccl().init_rank(&comm_, world_size_, membership.unique_id, rank_, &config), watch,
         "ncclCommInitRankConfig");
  if (comm_ == nullptr) fail(nccl::kInvalidUsage, watch, "ncclCommInitRankConfig gave no communicator");
  settle(watch);
}

void NcclGroup::broadcast(DevicePointer bytes, std::size_t length, int root, const Watch& watch) {
  auto* pointer = reinterpret_cast<void*>(bytes);
  expect(nccl().broadcast(pointer, pointer, length, nccl::kUint8, root, comm_, session_.collectives()), watch,
         "ncclBroadcast");
  settle(watch);
}

void NcclGroup::sum(DevicePointer floats, std::size_t count, const Watch& watch) {
  auto* pointer = reinterpret_cast<void*>(floats);
  expect(
      nccl().all_reduce(pointer, pointer, count, nccl::kFloat32, nccl::kSum, comm_, session_.collectives()),
      watch, "ncclAllReduce");
  settle(watch);
}

void NcclGroup::complete(const Watch& watch) {
  const auto& cuda = session_.cuda();
  cuda.check(cuda.event_record(completed_.get(), session_.collectives()), "cuEventRecord");
  Backoff backoff;
  while (!is_done(cuda, completed_)) {
    check(watch);
    expect_healthy(watch);
    backoff.pause(session_.interrupt().bell);
  }
  expect_healthy(watch);
}

void NcclGroup::expect_healthy(const Watch& watch) {
  if (const int state = async_error(); state != nccl::kSuccess) fail(state, watch, "ncclCommGetAsyncError");
}

void NcclGroup::end(LibraryCall<int(NcclComm)> NcclApi::* call) noexcept {
  // The last call of a communicator can block behind work that is not NCCL's. It gets a thread of its own, so
  // that ours can give up; we never use the communicator again.
  auto* comm = std::exchange(comm_, nullptr);
  const auto* api = &nccl();
  auto runtime = session_.shared_runtime();
  const int device = session_.device();
  try {
    ending_.start("wc-nccl-end", [=] {
      try {
        runtime->enter(device);
      } catch (const Error&) {  // then NCCL sets the device itself
      }
      (api->*call)(comm);
    });
  } catch (...) {  // no more threads, or no memory for one
    (api->*call)(comm);
  }
  ended(Deadline::after(kEndLimitMs));
}

void NcclGroup::abort() noexcept {
  if (comm_ == nullptr) return;
  end(&NcclApi::abort);
  repair_group_depth();
}

void NcclGroup::leave(const Deadline& deadline) noexcept {
  if (comm_ == nullptr) return;
  int state = async_error();
  if (state == nccl::kSuccess) state = nccl().finalize(comm_);
  Backoff backoff;
  while (state == nccl::kInProgress && !deadline.passed() && !session_.interrupt().raised()) {
    backoff.pause(session_.interrupt().bell);
    state = async_error();
  }
  if (state == nccl::kSuccess) {
    end(&NcclApi::destroy);
  } else {
    abort();
  }
}

}  // namespace weightcast
