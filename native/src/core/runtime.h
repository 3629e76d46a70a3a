// libcuda and libnccl, opened and initialised.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/cuda_api.h"
#include "core/nccl_api.h"
#include "core/variables.h"

namespace weightcast {

struct DeviceInfo {
  int index;
  std::string name;
  std::string uuid;
  std::size_t total_memory;
};

struct MemoryInfo {
  std::size_t free;
  std::size_t total;
};

/// Where the libraries are, as the caller says, and as the environment did when he asked.
struct RuntimePaths {
  std::optional<std::string> cuda;
  std::optional<std::string> nccl;
  Variables variables = {};
};

/// How long one call of the driver or of NCCL may last, where no deadline of the caller ends it before. The
/// first context on a large machine takes many seconds.
inline constexpr double kCallLimitMs = 60'000;

class Runtime {
 public:
  /// Opens libcuda, initialises it, then opens libnccl. Slow: not for the event loop.
  /// @throws Error WC_CUDA_NO_DRIVER, WC_CUDA_NO_DEVICE, WC_NCCL_NOT_FOUND, WC_NCCL_TOO_OLD,
  /// WC_CONFIG_INVALID
  static std::shared_ptr<const Runtime> open(const RuntimePaths& paths, double call_limit_ms = kCallLimitMs);

  const CudaApi& cuda() const { return cuda_; }
  const NcclApi& nccl() const { return nccl_; }
  const std::string& cuda_path() const { return cuda_library_.path(); }
  const std::string& nccl_path() const { return nccl_library_.path(); }
  int driver_version() const { return driver_version_; }
  bool emulated() const { return emulated_; }
  double call_limit_ms() const { return call_limit_ms_; }

  /// As they were when the libraries were opened.
  const std::vector<DeviceInfo>& devices() const { return devices_; }
  MemoryInfo memory(int device) const;
  /// @throws Error WC_NCCL_FAILED, WC_NATIVE_LIMIT (see StrayRoots)
  NcclUniqueId unique_id() const;
  /// The device's primary context, current on this thread. It is kept for the life of the process: NCCL meets
  /// us there.
  void enter(int device) const;

 private:
  Runtime(Library cuda_library, Library nccl_library, double call_limit_ms);
  std::vector<DeviceInfo> list_devices() const;

  Library cuda_library_;
  Library nccl_library_;
  CudaApi cuda_;
  NcclApi nccl_;
  int driver_version_ = 0;
  bool emulated_ = false;
  double call_limit_ms_;
  std::vector<DeviceInfo> devices_;
};

}  // namespace weightcast
