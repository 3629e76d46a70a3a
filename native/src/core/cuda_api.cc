#include "core/cuda_api.h"

#include "core/error.h"

namespace weightcast {

CudaApi::CudaApi(const Library& library) {
  auto require = [&library](auto*& function, const char* symbol) {
    if (library.resolve(function, symbol)) return;
    throw Error(code::kCudaNoDriver, library.path() + " is not a usable CUDA driver: it lacks " + symbol);
  };
#define WEIGHTCAST_RESOLVE(name, symbol, arguments) require(name.function(), symbol);
  WEIGHTCAST_CUDA_FUNCTIONS(WEIGHTCAST_RESOLVE)
#undef WEIGHTCAST_RESOLVE
}

std::string CudaApi::describe(int result) const {
  const char* name = nullptr;
  const char* text = nullptr;
  error_name(result, &name);
  error_string(result, &text);
  return std::string(name == nullptr ? "CUDA error" : name) + " (" + std::to_string(result) + ")" +
         (text == nullptr ? "" : ": " + std::string(text));
}

void CudaApi::check(int result, const char* call) const {
  if (result == cuda::kSuccess) return;
  throw Error(result == cuda::kOutOfMemory ? code::kCudaOutOfMemory : code::kCudaFailed,
              std::string(call) + " failed: " + describe(result), {{"cudaResult", double(result)}});
}

void CudaApi::check_allocation(int result, const char* call, std::size_t bytes, Memory where) const {
  if (result != cuda::kOutOfMemory) return check(result, call);
  std::size_t free = 0, total = 0;
  std::string device;
  if (where == Memory::device && memory_info(&free, &total) == cuda::kSuccess) {
    device = "; the device has " + std::to_string(free) + " of " + std::to_string(total) + " bytes free";
  }
  throw Error(code::kCudaOutOfMemory,
              std::string(call) + " of " + std::to_string(bytes) +
                  (where == Memory::host ? " bytes of pinned host memory failed: " : " bytes failed: ") +
                  describe(result) + device,
              {{"cudaResult", double(result)}, {"byteLength", double(bytes)}});
}

}  // namespace weightcast
