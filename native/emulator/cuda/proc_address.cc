#include <dlfcn.h>

#include <string>

#include "cuda/abi.h"

namespace emulator::cuda {
namespace {

/** Looks a name up in this library and nowhere else: a real libcuda may be in the process as well. */
void* own_symbol(const std::string& name) {
  Dl_info self = {};
  if (dladdr(reinterpret_cast<void*>(&own_symbol), &self) == 0) return nullptr;
  void* library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) return nullptr;
  void* found = dlsym(library, name.c_str());
  // dlsym also searches the libraries that this one needs.
  Dl_info owner = {};
  if (found != nullptr && (dladdr(found, &owner) == 0 || owner.dli_fbase != self.dli_fbase)) found = nullptr;
  dlclose(library);
  return found;
}

}  // namespace
}  // namespace emulator::cuda

using namespace emulator::cuda;

EMULATED CUresult cuGetProcAddress_v2(const char* name, void** function, int /*cuda_version*/,
                                      std::uint64_t /*flags*/, int* status) {
  if (name == nullptr || function == nullptr) return kInvalidValue;
  *function = own_symbol(std::string(name) + "_v2");
  if (*function == nullptr) *function = own_symbol(name);
  if (status != nullptr) *status = *function == nullptr ? 1 : 0;
  return *function == nullptr ? kNotFound : kSuccess;
}

EMULATED CUresult cuGetProcAddress(const char* name, void** function, int cuda_version, std::uint64_t flags) {
  return cuGetProcAddress_v2(name, function, cuda_version, flags, nullptr);
}
