#include "core/nccl_api.h"

#include "core/error.h"

namespace weightcast {

std::string format_nccl_version(int version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

NcclApi::NcclApi(const Library& library) {
  auto missing = [&library](const char* symbol) {
    return Error(code::kNcclNotFound, library.path() + " is not a usable NCCL library: it lacks " + symbol);
  };
  int (*get_version)(int*) = nullptr;
  if (!library.resolve(get_version, "ncclGetVersion")) throw missing("ncclGetVersion");
  if (get_version(&version) != nccl::kSuccess) throw missing("a working ncclGetVersion");
  if (version < nccl::kOldestVersion) {
    throw Error(code::kNcclTooOld,
                library.path() + " is NCCL " + format_nccl_version(version) +
                    "; weightcast needs 2.18 or later. Install a newer one (pip install nvidia-nccl-cu12, or "
                    "nvidia-nccl-cu13) or set WEIGHTCAST_NCCL_LIBRARY to it.",
                {{"ncclVersion", double(version)}});
  }
#define WEIGHTCAST_RESOLVE(name, symbol, arguments) \
  if (!library.resolve(name, symbol)) throw missing(symbol);
  WEIGHTCAST_NCCL_FUNCTIONS(WEIGHTCAST_RESOLVE)
#undef WEIGHTCAST_RESOLVE
  if (!library.resolve(error_string, "ncclGetErrorString")) throw missing("ncclGetErrorString");
  library.resolve(last_error, "ncclGetLastError");
}

std::string NcclApi::describe(int result) const {
  std::string text = std::string(error_string(result)) + " (" + std::to_string(result) + ")";
  const char* last = last_error == nullptr ? nullptr : last_error(nullptr);
  if (last != nullptr && *last != '\0') text += ": " + std::string(last);
  return text;
}

}  // namespace weightcast
