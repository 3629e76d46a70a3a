#include "core/communicator.h"

namespace weightcast {
namespace {

Error aborted_error() {
  return Error(code::kNcclAborted, "the communicator was aborted; build a new one with a fresh rendezvous");
}

/// How long an abort waits for a call that hangs before the thread is given up.
constexpr double kAbortLimitMs = 400;

JobTerms within(std::optional<double> timeout_ms) {
  JobTerms terms;
  if (timeout_ms) terms.deadline = Deadline::after(*timeout_ms);
  return terms;
}

Error transfer_closed_error() { return Error(code::kClosed, "the transfer is closed"); }

void expect_alive(const CommunicatorThread& thread) {
  const State state = thread.state();
  if (state == State::failed || state == State::aborted || thread.interrupt()->aborts > 0) throw aborted_error();
}

void expect_ready(const CommunicatorThread& thread) {
  expect_alive(thread);
  if (thread.state() != State::ready)
    throw Error(code::kArgument, "the communicator has not been initialised");
}

/// Ends the group after a failure or on request. What the device may still touch stays allocated if that
/// hangs.
void abort_group(CommunicatorThread& thread, Workbench& bench, State state) {
  bench.group.abort();
  thread.set_state(state);
  if (!bench.group.ended(Deadline::after(0))) return;
  bench.transfers.clear();
  bench.staging.clear();
}

/// Runs a collective operation: whatever it throws, the communicator is dead afterwards.
template <class Work>
auto collective(CommunicatorThread& thread, Workbench& bench, State after_failure, Work&& work) {
  try {
    return work();
  } catch (...) {
    const auto error = current_error();
    thread.note_failure(error);
    const bool refused = error.is(code::kNcclFailed);
    abort_group(thread, bench, refused ? after_failure : State::aborted);
    if (bench.group.ended(Deadline::after(0))) throw error;
    throw Error(error.code(),
                std::string(error.what()) +
                    "; ncclCommAbort has not returned either: other work holds the device, and "
                    "its memory was left behind",
                error.details());
  }
}

}  // namespace

void Communicator::enter(std::optional<double> timeout_ms, Done<Unit> done) {
  thread_->post<Unit>([](Workbench&) { return Unit{}; }, std::move(done), within(timeout_ms));
}

void Communicator::init(const Membership& membership, double timeout_ms, Done<Unit> done) {
  const auto deadline = Deadline::after(timeout_ms);
  thread_->post<Unit>(
      [thread = thread_.get(), membership, deadline](Workbench& bench) {
        expect_alive(*thread);
        if (thread->state() != State::idle)
          throw Error(code::kArgument, "the communicator is already initialised");
        thread->set_state(State::initializing);
        collective(*thread, bench, State::failed,
                   [&] { bench.group.join(membership, {"communicator init", deadline, nullptr}); });
        thread->set_state(State::ready);
        return Unit{};
      },
      std::move(done), {.deadline = deadline});
}

void Communicator::all_reduce(std::vector<float> values, double timeout_ms, Done<std::vector<float>> done) {
  const auto deadline = Deadline::after(timeout_ms);
  thread_->post<std::vector<float>>(
      [thread = thread_.get(), values = std::move(values), deadline](Workbench& bench) mutable {
        expect_ready(*thread);
        const std::size_t bytes = values.size() * sizeof(float);
        const auto buffer = bench.buffers.allocate(bytes);  // stays until the end when the collective fails
        const auto address = bench.buffers.at(buffer, {0, bytes});
        bench.buffers.write(buffer, 0, values.data(), bytes);
        const Watch watch{"all-reduce", deadline, nullptr};
        collective(*thread, bench, State::aborted, [&] {
          bench.group.sum(address, values.size(), watch);
          bench.group.complete(watch);
        });
        bench.buffers.read(buffer, 0, values.data(), bytes);
        bench.buffers.free(buffer);
        return std::move(values);
      },
      std::move(done), {.deadline = deadline});
}

void Communicator::broadcast(const BroadcastRequest& request, double timeout_ms, Done<Unit> done) {
  const auto deadline = Deadline::after(timeout_ms);
  thread_->post<Unit>(
      [thread = thread_.get(), request, deadline](Workbench& bench) {
        expect_ready(*thread);
        const auto target = bench.buffers.at(request.buffer, {request.offset, request.length});
        const Watch watch{"broadcast of " + std::to_string(request.length) + " bytes", deadline, nullptr};
        collective(*thread, bench, State::aborted, [&] {
          bench.group.check(watch);
          bench.group.broadcast(target, request.length, request.root, watch);
          bench.group.complete(watch);
        });
        return Unit{};
      },
      std::move(done), {.deadline = deadline});
}

void Communicator::prepare(Plan plan, double timeout_ms, Done<Prepared> done) {
  const auto deadline = Deadline::after(timeout_ms);
  thread_->post<Prepared>(
      [thread = thread_.get(), plan = std::move(plan), deadline](Workbench& bench) mutable {
        expect_alive(*thread);
        auto transfer = std::make_unique<Transfer>(bench.session, bench.buffers, bench.staging,
                                                   std::move(plan), thread->interrupt());
        try {
          transfer->stage(deadline);
        } catch (...) {
          thread->note_failure(current_error());
          throw;
        }
        const Prepared prepared{bench.next_transfer++, transfer->frames_issued()};
        bench.transfers.emplace(prepared.id, std::move(transfer));
        return prepared;
      },
      std::move(done), {.deadline = deadline});
}

void Communicator::run(TransferId id, double timeout_ms, Transfer::Progress progress,
                       Done<TransferStats> done) {
  const auto deadline = Deadline::after(timeout_ms);
  thread_->post<TransferStats>(
      [thread = thread_.get(), id, deadline, progress = std::move(progress)](Workbench& bench) {
        expect_ready(*thread);
        const auto found = bench.transfers.find(id);
        if (found == bench.transfers.end()) throw transfer_closed_error();
        auto& transfer = *found->second;
        const auto stats = collective(*thread, bench, State::aborted,
                                      [&] { return transfer.run(bench.group, deadline, progress); });
        bench.transfers.erase(id);
        return stats;
      },
      std::move(done), {.deadline = deadline});
}

void Communicator::close_transfer(TransferId id, Done<Unit> done) {
  auto closed = [done = std::move(done)](Outcome<Unit>) {
    done(Unit{});
  };  // a closed communicator has closed it
  thread_->post<Unit>(
      [id](Workbench& bench) {
        bench.transfers.erase(id);
        return Unit{};
      },
      std::move(closed));
}

void Communicator::async_error(std::optional<double> timeout_ms, Done<int> done) {
  thread_->post<int>(
      [thread = thread_.get()](Workbench& bench) {
        expect_alive(*thread);
        return bench.group.async_error();
      },
      std::move(done), within(timeout_ms));
}

void Communicator::abort(Done<Unit> done) {
  thread_->request_abort();
  auto aborted = [done = std::move(done)](Outcome<Unit>) { done(Unit{}); };  // closed is as good
  thread_->post<Unit>(
      [thread = thread_.get()](Workbench& bench) {
        abort_group(*thread, bench, State::aborted);
        thread->note_aborted();
        return Unit{};
      },
      std::move(aborted), {.deadline = Deadline::after(kAbortLimitMs), .always = true});
}

void Communicator::destroy(double timeout_ms, Done<Unit> done) {
  const auto deadline = Deadline::after(timeout_ms);
  auto destroyed = [thread = thread_, done = std::move(done)](Outcome<Unit>) {
    thread->set_state(State::closed);  // also when it had to be given up
    done(Unit{});
  };
  thread_->post<Unit>(
      [thread = thread_, deadline](Workbench& bench) {
        bench.group.leave(deadline);
        thread->finish(deadline);
        return Unit{};
      },
      std::move(destroyed), {.deadline = deadline, .always = true, .ends = true});
}

void Communicator::allocate(std::uint64_t length, Done<BufferId> done) {
  thread_->post<BufferId>([length](Workbench& bench) { return bench.buffers.allocate(length); },
                          std::move(done));
}

void Communicator::open(const CudaIpcHandle& handle, std::uint64_t length, Done<BufferId> done) {
  thread_->post<BufferId>([handle, length](Workbench& bench) { return bench.buffers.open(handle, length); },
                          std::move(done));
}

void Communicator::share(BufferId id, Done<CudaIpcHandle> done) {
  thread_->post<CudaIpcHandle>([id](Workbench& bench) { return bench.buffers.share(id); }, std::move(done));
}

void Communicator::free(BufferId id, Done<Unit> done) {
  auto freed = [done = std::move(done)](Outcome<Unit>) { done(Unit{}); };
  thread_->post<Unit>(
      [id](Workbench& bench) {
        bench.buffers.free(id);
        return Unit{};
      },
      std::move(freed));
}

void Communicator::read(BufferId id, std::uint64_t offset, void* target, std::uint64_t length,
                        Done<Unit> done) {
  thread_->post<Unit>(
      [=](Workbench& bench) {
        bench.buffers.read(id, offset, target, length);
        return Unit{};
      },
      std::move(done));
}

void Communicator::write(BufferId id, std::uint64_t offset, const void* bytes, std::uint64_t length,
                         Done<Unit> done) {
  thread_->post<Unit>(
      [=](Workbench& bench) {
        bench.buffers.write(id, offset, bytes, length);
        return Unit{};
      },
      std::move(done));
}

void Communicator::copy(BufferId target, BufferId source, const StridedCopy& copy, Done<Unit> done) {
  thread_->post<Unit>(
      [=](Workbench& bench) {
        bench.buffers.copy(target, source, copy);
        return Unit{};
      },
      std::move(done));
}

void Communicator::sha256(BufferId id, std::vector<ByteSpan> spans, Done<std::vector<Digest>> done) {
  thread_->post<std::vector<Digest>>(
      [id, spans = std::move(spans)](Workbench& bench) { return bench.buffers.sha256(id, spans); },
      std::move(done));
}

}  // namespace weightcast
