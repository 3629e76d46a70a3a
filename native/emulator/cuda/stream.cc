#include "cuda/stream.h"

#include <map>
#include <mutex>
#include <vector>

#include "common/faults.h"
#include "cuda/context.h"
#include "cuda/device.h"

namespace emulator::cuda {
namespace {

std::mutex& streams_mutex = *new std::mutex;  // guards streams
std::map<CUstream, std::shared_ptr<Stream>>& streams = *new std::map<CUstream, std::shared_ptr<Stream>>;

bool enqueue_host_function(CUstream handle, void (*run)(void*), void* argument) {
  const auto stream = find_stream(handle);
  if (stream == nullptr) return false;
  stream->worker->post([run, argument] { run(argument); });
  return true;
}

}  // namespace

Stream::Stream(CUdevice device_, unsigned flags_, int priority_)
    : StreamHandle{kStreamMagic, &enqueue_host_function},
      device(device_),
      flags(flags_),
      priority(priority_) {}

std::shared_ptr<Stream> find_stream(CUstream handle) {
  std::lock_guard lock(streams_mutex);
  const auto found = streams.find(handle);
  return found == streams.end() ? nullptr : found->second;
}

CUresult submit(CUstream handle, std::function<void()> job) {
  if (is_default_stream(handle)) {
    job();
    return kSuccess;
  }
  const auto stream = find_stream(handle);
  if (stream == nullptr) return kInvalidHandle;
  stream->worker->post(std::move(job));
  return kSuccess;
}

void synchronize_device(CUdevice device) {
  std::vector<std::shared_ptr<Stream>> waiting;
  {
    std::lock_guard lock(streams_mutex);
    for (const auto& [handle, stream] : streams) {
      if (stream->device == device) waiting.push_back(stream);
    }
  }
  for (const auto& stream : waiting) stream->worker->synchronize();
}

}  // namespace emulator::cuda

using namespace emulator::cuda;

EMULATED CUresult cuStreamCreateWithPriority(CUstream* handle, unsigned flags, int priority) {
  if (const auto error = check_context()) return error;
  if (handle == nullptr || flags > 1) return kInvalidValue;
  auto stream = std::make_shared<Stream>(current_context()->device, flags, priority);
  *handle = stream.get();
  std::lock_guard lock(streams_mutex);
  streams.emplace(stream.get(), stream);
  return kSuccess;
}

EMULATED CUresult cuStreamCreate(CUstream* handle, unsigned flags) {
  emulator::hang_if_told("cuStreamCreate");
  return cuStreamCreateWithPriority(handle, flags, 0);
}

/** Returns at once, like the real one: what is queued still runs. */
EMULATED CUresult cuStreamDestroy_v2(CUstream handle) {
  emulator::hang_if_told("cuStreamDestroy");
  if (const auto error = check_initialized()) return error;
  const auto stream = find_stream(handle);
  if (stream == nullptr) return kInvalidHandle;
  {
    std::lock_guard lock(streams_mutex);
    streams.erase(handle);
  }
  // A queued job of libnccl may still hold the handle.
  stream->worker->close(stream);
  return kSuccess;
}

EMULATED CUresult cuStreamSynchronize(CUstream handle) {
  if (const auto error = check_context()) return error;
  if (emulator::is_default_stream(handle)) return kSuccess;
  const auto stream = find_stream(handle);
  if (stream == nullptr) return kInvalidHandle;
  stream->worker->synchronize();
  return kSuccess;
}

EMULATED CUresult cuStreamQuery(CUstream handle) {
  if (const auto error = check_context()) return error;
  if (emulator::is_default_stream(handle)) return kSuccess;
  const auto stream = find_stream(handle);
  if (stream == nullptr) return kInvalidHandle;
  return stream->worker->idle() ? kSuccess : kNotReady;
}

EMULATED CUresult cuStreamGetFlags(CUstream handle, unsigned* flags) {
  const auto stream = find_stream(handle);
  if (stream == nullptr) return kInvalidHandle;
  if (flags == nullptr) return kInvalidValue;
  *flags = stream->flags;
  return kSuccess;
}

EMULATED CUresult cuStreamGetPriority(CUstream handle, int* priority) {
  const auto stream = find_stream(handle);
  if (stream == nullptr) return kInvalidHandle;
  if (priority == nullptr) return kInvalidValue;
  *priority = stream->priority;
  return kSuccess;
}

EMULATED CUresult cuLaunchHostFunc(CUstream handle, CUhostFn run, void* data) {
  if (const auto error = check_context()) return error;
  if (run == nullptr) return kInvalidValue;
  return submit(handle, [run, data] { run(data); });
}

EMULATED CUresult cuStreamAddCallback(CUstream handle, CUstreamCallback run, void* data, unsigned flags) {
  if (const auto error = check_context()) return error;
  if (run == nullptr || flags != 0) return kInvalidValue;
  return submit(handle, [run, data, handle] { run(handle, kSuccess, data); });
}
