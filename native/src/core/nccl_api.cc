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
  const auto asked = [&] {
    const WatchedCall inside("ncclGetVersion");
    return get_version(&version);
  };
  if (asked() != nccl::kSuccess) throw missing("a working ncclGetVersion");
  if (version < nccl::kOldestVersion) {
    throw Error(code::kNcclTooOld,
                library.path() + " is NCCL " + format_nccl_version(version) +
                    "; weightcast needs 2.18 or later. Install a newer one (pip install nvidia-nccl-cu12, or "
                    "nvidia-nccl-cu13) or set WEIGHTCAST_NCCL_LIBRARY to it.",
                {{"ncclVersion", double(version)}});
  }
#define WEIGHTCAST_RESOLVE(name, symbol, arguments) \
  if (!library.resolve(name.function(), symbol)) throw missing(symbol);
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

std::string nccl_remedy(int result, std::string_view text) {
  const auto says = [text](std::string_view part) { return text.find(part) != std::string_view::npos; };
  switch (result) {
    case 1:
      if (says("driver version is insufficient")) {
        return "The driver is too old for the CUDA that this libnccl was built with: install a newer driver, "
               "or point "
               "WEIGHTCAST_NCCL_LIBRARY at a build for the driver's CUDA (pip install nvidia-nccl-cu12).";
      }
      return "NCCL's own CUDA calls fail: look at nvidia-smi and dmesg, and run with NCCL_DEBUG=INFO.";
    case 2:
      return "The system refused NCCL something: look at ulimit -n, the size of /dev/shm and "
             "NCCL_SOCKET_IFNAME, and run "
             "with NCCL_DEBUG=INFO.";
    case 5:
      if (says("Mismatched NCCL version")) {
        return "All ranks must run the same NCCL: set WEIGHTCAST_NCCL_LIBRARY to the libnccl.so.2 that the "
               "engines load.";
      }
      if (says("same GPU") || says("Duplicate GPU")) {
        return "A worker of an engine sits on this GPU: pass another --device (with NCCL 2.30.3 or later, "
               "NCCL_MULTI_RANK_GPU_ENABLE=1 on all ranks also helps).";
      }
      return "The ranks disagree: compare the NCCL_* variables and the NCCL versions of this machine and the "
             "engines, and "
             "run with NCCL_DEBUG=WARN.";
    case 6:
      return "A rank's process ended or its network broke: look at the engines' logs, restart those that "
             "died and push "
             "again; the next update builds a new communicator.";
    default:
      return "";
  }
}

}  // namespace weightcast
