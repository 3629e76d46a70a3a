#include <unistd.h>

#include <atomic>
#include <cstring>

#include "common/faults.h"
#include "cuda/context.h"
#include "cuda/memory.h"
#include "cuda/stream.h"

namespace emulator::cuda {
namespace {

enum class Place { device, host, any };

CUresult check_place(Place place, const void* pointer, std::size_t bytes) {
  if (bytes == 0) return kSuccess;
  if (pointer == nullptr) return kInvalidValue;
  const bool known = place != Place::device || find_allocation(Kind::device, pointer, bytes).base != nullptr;
  return known ? kSuccess : kInvalidValue;
}

/** The hang-in-copy fault: the stream, not the call, hangs. */
void hang_in_copy_if_told() {
  static std::atomic<std::uint64_t> copies{0};
  const auto told = faults().hang_in_copy;
  if (told == 0 || ++copies != told) return;
  for (;;) pause();
}

/**
 * Copies from and to pageable host memory are finished when the call returns (the real driver stages them):
 * only pinned memory may be overtaken by the caller.
 */
CUresult copy(Place to, void* target, Place from, const void* source, std::size_t bytes, CUstream stream) {
  if (const auto error = check_context()) return error;
  if (const auto error = check_place(to, target, bytes)) return error;
  if (const auto error = check_place(from, source, bytes)) return error;
  const auto result = submit(stream, [=] {
    hang_in_copy_if_told();
    std::memcpy(target, source, bytes);
  });
  const bool pageable =
      (to == Place::host && !is_pinned(target, bytes)) || (from == Place::host && !is_pinned(source, bytes));
  if (result == kSuccess && pageable && !is_default_stream(stream))
    find_stream(stream)->worker->synchronize();
  return result;
}

/** CUDA_MEMCPY2D: three memory kinds, 1 host, 2 device, 4 unified. */
struct Copy2D {
  std::size_t source_x, source_y;
  unsigned source_kind;
  const void* source_host;
  CUdeviceptr source_device;
  void* source_array;
  std::size_t source_pitch;
  std::size_t target_x, target_y;
  unsigned target_kind;
  void* target_host;
  CUdeviceptr target_device;
  void* target_array;
  std::size_t target_pitch;
  std::size_t width, height;
};

CUresult copy_2d(const Copy2D* asked, CUstream stream) {
  if (const auto error = check_context()) return error;
  if (asked == nullptr) return kInvalidValue;
  const Copy2D c = *asked;
  const auto is_plain = [](unsigned kind) { return kind == 1 || kind == 2 || kind == 4; };
  if (!is_plain(c.source_kind) || !is_plain(c.target_kind)) return kNotSupported;
  if (c.width == 0 || c.height == 0) return kSuccess;
  const auto source_pitch = c.source_pitch != 0 ? c.source_pitch : c.width;
  const auto target_pitch = c.target_pitch != 0 ? c.target_pitch : c.width;
  if (source_pitch < c.source_x + c.width || target_pitch < c.target_x + c.width) return kInvalidValue;
  const auto* source =
      static_cast<const std::byte*>(c.source_kind == 1 ? c.source_host : to_pointer(c.source_device)) +
      c.source_y * source_pitch + c.source_x;
  auto* target = static_cast<std::byte*>(c.target_kind == 1 ? c.target_host : to_pointer(c.target_device)) +
                 c.target_y * target_pitch + c.target_x;
  const auto place = [](unsigned kind) {
    return kind == 1 ? Place::host : kind == 2 ? Place::device : Place::any;
  };
  if (const auto error = check_place(place(c.source_kind), source, (c.height - 1) * source_pitch + c.width))
    return error;
  if (const auto error = check_place(place(c.target_kind), target, (c.height - 1) * target_pitch + c.width))
    return error;
  const auto result = submit(stream, [=] {
    for (std::size_t row = 0; row < c.height; ++row) {
      std::memcpy(target + row * target_pitch, source + row * source_pitch, c.width);
    }
  });
  const bool host = c.source_kind == 1 || c.target_kind == 1;
  if (result == kSuccess && host && !is_default_stream(stream)) find_stream(stream)->worker->synchronize();
  return result;
}

}  // namespace
}  // namespace emulator::cuda

using namespace emulator::cuda;

EMULATED CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr target, const void* source, std::size_t bytes,
                                       CUstream stream) {
  emulator::hang_if_told("cuMemcpyHtoDAsync");
  return copy(Place::device, to_pointer(target), Place::host, source, bytes, stream);
}
EMULATED CUresult cuMemcpyDtoHAsync_v2(void* target, CUdeviceptr source, std::size_t bytes, CUstream stream) {
  emulator::hang_if_told("cuMemcpyDtoHAsync");
  return copy(Place::host, target, Place::device, to_pointer(source), bytes, stream);
}
EMULATED CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr target, CUdeviceptr source, std::size_t bytes,
                                       CUstream stream) {
  return copy(Place::device, to_pointer(target), Place::device, to_pointer(source), bytes, stream);
}
EMULATED CUresult cuMemcpyAsync(CUdeviceptr target, CUdeviceptr source, std::size_t bytes, CUstream stream) {
  return copy(Place::any, to_pointer(target), Place::any, to_pointer(source), bytes, stream);
}
EMULATED CUresult cuMemcpyHtoD_v2(CUdeviceptr target, const void* source, std::size_t bytes) {
  return cuMemcpyHtoDAsync_v2(target, source, bytes, nullptr);
}
EMULATED CUresult cuMemcpyDtoH_v2(void* target, CUdeviceptr source, std::size_t bytes) {
  return cuMemcpyDtoHAsync_v2(target, source, bytes, nullptr);
}
EMULATED CUresult cuMemcpyDtoD_v2(CUdeviceptr target, CUdeviceptr source, std::size_t bytes) {
  return cuMemcpyDtoDAsync_v2(target, source, bytes, nullptr);
}
EMULATED CUresult cuMemcpy(CUdeviceptr target, CUdeviceptr source, std::size_t bytes) {
  return cuMemcpyAsync(target, source, bytes, nullptr);
}
EMULATED CUresult cuMemcpy2DAsync_v2(const Copy2D* copy, CUstream stream) { return copy_2d(copy, stream); }
EMULATED CUresult cuMemcpy2D_v2(const Copy2D* copy) { return copy_2d(copy, nullptr); }

EMULATED CUresult cuMemsetD8Async(CUdeviceptr target, unsigned char value, std::size_t bytes,
                                  CUstream stream) {
  if (const auto error = check_context()) return error;
  if (const auto error = check_place(Place::device, to_pointer(target), bytes)) return error;
  return submit(stream, [=] { std::memset(to_pointer(target), value, bytes); });
}
EMULATED CUresult cuMemsetD8_v2(CUdeviceptr target, unsigned char value, std::size_t bytes) {
  return cuMemsetD8Async(target, value, bytes, nullptr);
}
