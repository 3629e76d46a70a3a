// The emulated driver, alone and under a communicator.
#include <atomic>
#include <cstring>
#include <thread>

#include "emulator_nccl_api.h"

namespace emulator::test {

using emulator::cuda::kInvalidContext;
using emulator::cuda::kNotReady;

/** Makes the primary context of a device current on this thread. */
CUcontext use_device(int device) {
  CUcontext context = nullptr;
  CHECK_EQ(CUDA(cuInit, unsigned)(0), 0);
  CHECK_EQ(CUDA(cuDevicePrimaryCtxRetain, CUcontext*, int)(&context, device), 0);
  CHECK_EQ(CUDA(cuCtxSetCurrent, CUcontext)(context), 0);
  return context;
}

CUstream new_stream() {
  CUstream stream = nullptr;
  CHECK_EQ(CUDA(cuStreamCreate, CUstream*, unsigned)(&stream, 1), 0);
  return stream;
}

CUevent new_event() {
  CUevent event = nullptr;
  CHECK_EQ(CUDA(cuEventCreate, CUevent*, unsigned)(&event, 2), 0);
  return event;
}

CUdeviceptr device_memory(std::size_t bytes) {
  CUdeviceptr address = 0;
  CHECK_EQ(CUDA(cuMemAlloc_v2, CUdeviceptr*, std::size_t)(&address, bytes), 0);
  return address;
}

CASE(calls_need_a_current_context) {
  CUdeviceptr address = 0;
  CHECK_EQ(CUDA(cuInit, unsigned)(0), 0);
  std::thread([&] {
    CHECK_EQ(CUDA(cuMemAlloc_v2, CUdeviceptr*, std::size_t)(&address, 16), kInvalidContext);
    use_device(0);
    CHECK_EQ(CUDA(cuMemAlloc_v2, CUdeviceptr*, std::size_t)(&address, 16), 0);
    CHECK_EQ(CUDA(cuMemFree_v2, CUdeviceptr)(address), 0);
    CHECK_EQ(CUDA(cuMemFree_v2, CUdeviceptr)(address), cuda::kInvalidValue);
  }).join();
}

CASE(devices_say_that_they_are_emulated_and_keep_their_uuid) {
  use_device(0);
  int count = 0;
  char name[100];
  CUuuid first, again, second;
  CHECK_EQ(CUDA(cuDeviceGetCount, int*)(&count), 0);
  CHECK_EQ(count, 8);
  CHECK_EQ(CUDA(cuDeviceGetName, char*, int, int)(name, 100, 0), 0);
  CHECK(std::strstr(name, "emulated") != nullptr);
  const auto uuid = CUDA(cuDeviceGetUuid_v2, CUuuid*, int);
  CHECK(uuid(&first, 0) == 0 && uuid(&again, 0) == 0 && uuid(&second, 1) == 0);
  CHECK(std::memcmp(&first, &again, sizeof first) == 0 && std::memcmp(&first, &second, sizeof first) != 0);
}

struct Step {
  std::vector<int>* order;
  std::atomic<bool>* gate;
  int number;
};

void record_step(void* argument) {
  const auto* step = static_cast<Step*>(argument);
  while (step->gate != nullptr && !step->gate->load()) std::this_thread::yield();
  step->order->push_back(step->number);
}

CASE(a_stream_runs_in_order_and_an_event_marks_a_place_in_it) {
  use_device(0);
  const auto stream = new_stream(), other = new_stream();
  const auto event = new_event(), late = new_event();
  std::vector<int> order;
  std::atomic<bool> gate{false};
  Step steps[] = {{&order, &gate, 1}, {&order, nullptr, 2}, {&order, nullptr, 3}};
  const auto launch = CUDA(cuLaunchHostFunc, CUstream, CUhostFn, void*);
  const auto query = CUDA(cuEventQuery, CUevent);
  CHECK_EQ(query(event), 0);  // never recorded
  CHECK_EQ(launch(stream, &record_step, &steps[0]), 0);
  CHECK_EQ(launch(stream, &record_step, &steps[1]), 0);
  CHECK_EQ(CUDA(cuEventRecord, CUevent, CUstream)(event, stream), 0);
  CHECK_EQ(CUDA(cuStreamWaitEvent, CUstream, CUevent, unsigned)(other, event, 0), 0);
  CHECK_EQ(launch(other, &record_step, &steps[2]), 0);
  CHECK_EQ(CUDA(cuEventRecord, CUevent, CUstream)(late, other), 0);
  CHECK_EQ(query(event), kNotReady);
  CHECK_EQ(CUDA(cuStreamQuery, CUstream)(stream), kNotReady);
  gate = true;
  CHECK_EQ(CUDA(cuEventSynchronize, CUevent)(late), 0);
  CHECK((order == std::vector<int>{1, 2, 3}));
  CHECK_EQ(query(event), 0);
  for (const auto done : {stream, other}) CHECK_EQ(CUDA(cuStreamDestroy_v2, CUstream)(done), 0);
  for (const auto done : {event, late}) CHECK_EQ(CUDA(cuEventDestroy_v2, CUevent)(done), 0);
  CHECK_EQ(CUDA(cuStreamSynchronize, CUstream)(stream), cuda::kInvalidHandle);
}

CASE(copies_reach_and_leave_device_memory) {
  use_device(0);
  const auto stream = new_stream();
  const auto sent = pattern(100'000, 1);
  std::vector<unsigned char> got(sent.size());
  const auto a = device_memory(sent.size()), b = device_memory(sent.size());
  CHECK_EQ(CUDA(cuMemcpyHtoDAsync_v2, CUdeviceptr, const void*, std::size_t, CUstream)(a, sent.data(),
                                                                                       sent.size(), stream),
           0);
  CHECK_EQ(
      CUDA(cuMemcpyDtoDAsync_v2, CUdeviceptr, CUdeviceptr, std::size_t, CUstream)(b, a, sent.size(), stream),
      0);
  // Pageable memory: in place when the call returns.
  CHECK_EQ(CUDA(cuMemcpyDtoHAsync_v2, void*, CUdeviceptr, std::size_t, CUstream)(got.data(), b, sent.size(),
                                                                                 stream),
           0);
  CHECK(got == sent);
  CHECK_EQ(CUDA(cuMemcpyHtoDAsync_v2, CUdeviceptr, const void*, std::size_t, CUstream)(a + 1, sent.data(),
                                                                                       sent.size(), stream),
           cuda::kInvalidValue);
  CHECK_EQ(CUDA(cuMemFree_v2, CUdeviceptr)(a), 0);
  CHECK_EQ(CUDA(cuMemFree_v2, CUdeviceptr)(b), 0);
  CHECK_EQ(CUDA(cuStreamDestroy_v2, CUstream)(stream), 0);
}

CASE(more_memory_than_the_machine_has_is_refused) {
  use_device(0);
  CUdeviceptr address = 0;
  CHECK_EQ(CUDA(cuMemAlloc_v2, CUdeviceptr*, std::size_t)(&address, std::size_t{1} << 60),
           cuda::kOutOfMemory);
  CHECK_EQ(address, 0);
}

CASE(functions_are_found_by_name_without_their_suffix) {
  void* found = nullptr;
  int status = -1;
  const auto ask = CUDA(cuGetProcAddress_v2, const char*, void**, int, std::uint64_t, int*);
  CHECK_EQ(ask("cuMemAlloc", &found, 12000, 0, &status), 0);
  CHECK(found == symbol_of(cuda_library(), "cuMemAlloc_v2"));
  CHECK_EQ(ask("cuNoSuchThing", &found, 12000, 0, &status), cuda::kNotFound);
  CHECK_EQ(ask("printf", &found, 12000, 0, &status), cuda::kNotFound);
}

/** Non-blocking, on a stream: what the addon does. */
void broadcast_on_stream(const Rank& me) {
  use_device(me.rank);
  const auto stream = new_stream();
  const auto event = new_event();
  const std::size_t bytes = 20'000'000;
  const auto expected = pattern(bytes, 5);
  const auto memory = device_memory(bytes);
  auto options = config(0);
  ncclComm_t comm = nullptr;
  int device = -1;
  CHECK_EQ(CommInitRankConfig(&comm, me.ranks, me.id, me.rank, &options), nccl::kInProgress);
  eventually("joined", [&] { return async_state(comm) == 0; });
  CHECK_EQ(CommCuDevice(comm, &device), 0);
  CHECK_EQ(device, me.rank);
  if (me.rank == 0) std::memcpy(reinterpret_cast<void*>(memory), expected.data(), bytes);
  auto* const buffer = reinterpret_cast<void*>(memory);
  CHECK_EQ(Broadcast(buffer, buffer, bytes, nccl::kUint8, 0, comm, stream), nccl::kInProgress);
  eventually("launched", [&] { return async_state(comm) == 0; });
  CHECK_EQ(CUDA(cuEventRecord, CUevent, CUstream)(event, stream), 0);
  CHECK_EQ(CUDA(cuEventSynchronize, CUevent)(event), 0);
  CHECK(std::memcmp(buffer, expected.data(), bytes) == 0);
  CHECK_EQ(CommFinalize(comm), nccl::kInProgress);
  eventually("finalized", [&] { return async_state(comm) == 0; });
  CHECK_EQ(CommDestroy(comm), 0);
  CHECK_EQ(CUDA(cuMemFree_v2, CUdeviceptr)(memory), 0);
  CHECK_EQ(CUDA(cuEventDestroy_v2, CUevent)(event), 0);
  CHECK_EQ(CUDA(cuStreamDestroy_v2, CUstream)(stream), 0);
}

ROLE(broadcast_on_stream) { broadcast_on_stream(me); }

CASE(a_non_blocking_broadcast_runs_on_its_stream) {
  with_ranks("broadcast_on_stream", 3, &broadcast_on_stream);
}

CASE(an_abort_frees_a_stream_that_waits_for_a_peer) {
  const Rank me{new_id(), 0, 2};
  Process peer("join_and_wait", {me.id, 1, 2});
  use_device(0);
  const auto stream = new_stream();
  const auto memory = device_memory(1000);
  auto comm = joined(me);
  CHECK_EQ(Broadcast(nullptr, reinterpret_cast<void*>(memory), 1000, nccl::kUint8, 1, comm, stream), 0);
  CHECK_EQ(CUDA(cuStreamQuery, CUstream)(stream), kNotReady);
  const Stopwatch watch;
  CHECK_EQ(CommAbort(comm), 0);
  CHECK_EQ(CUDA(cuStreamSynchronize, CUstream)(stream), 0);
  CHECK(watch.seconds() < 1);
  CHECK_EQ(CUDA(cuMemFree_v2, CUdeviceptr)(memory), 0);
  CHECK_EQ(CUDA(cuStreamDestroy_v2, CUstream)(stream), 0);
}

CASE(after_an_abort_nothing_more_is_launched_on_a_stream) {
  use_device(0);
  const auto memory = device_memory(1000);
  auto* const buffer = reinterpret_cast<void*>(memory);
  auto options = config(0);
  for (int round = 0; round < 50; ++round) {
    const auto stream = new_stream();
    ncclComm_t comm = nullptr;
    CHECK_EQ(CommInitRankConfig(&comm, 1, new_id(), 0, &options), nccl::kInProgress);
    eventually("joined", [&] { return async_state(comm) == 0; });
    CHECK_EQ(GroupStart(), 0);
    for (int i = 0; i < 500; ++i) {
      CHECK_EQ(Broadcast(buffer, buffer, 1000, nccl::kUint8, 0, comm, stream), 0);
    }
    CHECK_EQ(GroupEnd(), nccl::kInProgress);
    CHECK_EQ(CommAbort(comm), 0);
    CHECK_EQ(CUDA(cuStreamDestroy_v2, CUstream)(stream), 0);
  }
  CHECK_EQ(CUDA(cuMemFree_v2, CUdeviceptr)(memory), 0);
}

ROLE(second_on_device_0) {
  use_device(0);
  ncclComm_t comm = nullptr;
  CHECK_EQ(CommInitRank(&comm, me.ranks, me.id, me.rank), nccl::kInvalidUsage);
  CHECK(LastError().find("using the same GPU") != std::string::npos);
}

CASE(two_ranks_on_one_device_are_refused_when_asked) {
  with_ranks("second_on_device_0", 2,
             [](const Rank& me) {
               use_device(0);
               ncclComm_t comm = nullptr;
               CHECK_EQ(CommInitRank(&comm, 2, me.id, 0), nccl::kInvalidUsage);
             },
             {"WEIGHTCAST_EMULATOR_DUPLICATE_DEVICE=refuse"});
}

ROLE(no_device) {
  CHECK_EQ(CUDA(cuInit, unsigned)(0), static_cast<CUresult>(me.rank));
  int count = 0;
  CHECK_EQ(CUDA(cuDeviceGetCount, int*)(&count), cuda::kNotInitialized);
}

CASE(no_device_and_no_driver_are_different_errors) {
  // The rank carries the expected code.
  const ncclUniqueId none = {};
  CHECK_EQ(Process("no_device", {none, 100, 0}, {"WEIGHTCAST_EMULATOR_FAULTS=no-device"}).wait(), 0);
  CHECK_EQ(Process("no_device", {none, 100, 0}, {"CUDA_VISIBLE_DEVICES="}).wait(), 0);
  CHECK_EQ(Process("no_device", {none, 803, 0}, {"WEIGHTCAST_EMULATOR_FAULTS=no-driver"}).wait(), 0);
}

}  // namespace emulator::test
