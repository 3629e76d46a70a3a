#include "core/runtime.h"

#include <cstdio>

#include "core/error.h"
#include "core/library_places.h"
#include "core/stray_roots.h"

namespace weightcast {
namespace {

/// Settings that would make NCCL ignore what we ask of it: the unique id, or calls that return at once.
void refuse_hostile(const Variables& variables) {
  if (!variables.text("NCCL_COMM_ID").empty()) {
    throw Error(
        code::kConfig,
        "NCCL_COMM_ID is set in the environment: NCCL would ignore the rendezvous and meet at that address. "
        "Unset it.");
  }
  if (const auto* blocking = variables.find("NCCL_COMM_BLOCKING"); blocking != nullptr && *blocking != "0") {
    throw Error(
        code::kConfig,
        "NCCL_COMM_BLOCKING is set in the environment: NCCL calls could then block for ever. Unset it.");
  }
}

void initialise(const CudaApi& cuda, const std::string& path) {
  if (const int result = cuda.init(0); result == cuda::kNoDevice) {
    throw Error(code::kCudaNoDevice,
                path + " sees no GPU: " + cuda.describe(result) +
                    ". Check nvidia-smi, CUDA_VISIBLE_DEVICES and the container's GPU settings.");
  } else if (result != cuda::kSuccess) {
    throw Error(code::kCudaNoDriver,
                path + " does not work: cuInit gave " + cuda.describe(result) +
                    ". Install a driver that fits the kernel module and the CUDA version.",
                {{"cudaResult", double(result)}});
  }
  int count = 0;
  cuda.check(cuda.device_count(&count), "cuDeviceGetCount");
  if (count == 0) {
    throw Error(code::kCudaNoDevice, path + " sees no GPU. Check nvidia-smi and CUDA_VISIBLE_DEVICES.");
  }
}

std::string format_uuid(const CudaUuid& uuid) {
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    char hex[3];
    std::snprintf(hex, sizeof hex, "%02x", uuid.bytes[i]);
    text += hex;
  }
  return text;
}

Library open_initialised_cuda(const RuntimePaths& paths) {
  auto library = Library::open(cuda_query(paths.cuda.value_or(""), paths.variables));
  initialise(CudaApi(library), library.path());
  return library;
}

}  // namespace

std::shared_ptr<const Runtime> Runtime::open(const RuntimePaths& paths, double call_limit_ms) {
  refuse_hostile(paths.variables);
  auto cuda = open_initialised_cuda(paths);
  auto nccl = Library::open(nccl_query(paths.nccl.value_or(""), paths.variables));
  return std::shared_ptr<const Runtime>(new Runtime(std::move(cuda), std::move(nccl), call_limit_ms));
}

Runtime::Runtime(Library cuda_library, Library nccl_library, double call_limit_ms)
    : cuda_library_(std::move(cuda_library)),
      nccl_library_(std::move(nccl_library)),
      cuda_(cuda_library_),
      nccl_(nccl_library_),
      emulated_(cuda_library_.find("weightcast_emulation") != nullptr ||
                nccl_library_.find("weightcast_emulation") != nullptr),
      call_limit_ms_(call_limit_ms) {
  cuda_.check(cuda_.driver_version(&driver_version_), "cuDriverGetVersion");
  devices_ = list_devices();
}

std::vector<DeviceInfo> Runtime::list_devices() const {
  int count = 0;
  cuda_.check(cuda_.device_count(&count), "cuDeviceGetCount");
  std::vector<DeviceInfo> devices;
  for (int index = 0; index < count; ++index) {
    CudaDevice device = 0;
    char name[256] = {};
    CudaUuid uuid{};
    std::size_t memory = 0;
    cuda_.check(cuda_.device_get(&device, index), "cuDeviceGet");
    cuda_.check(cuda_.device_name(name, sizeof name - 1, device), "cuDeviceGetName");
    cuda_.check(cuda_.device_uuid(&uuid, device), "cuDeviceGetUuid");
    cuda_.check(cuda_.device_memory(&memory, device), "cuDeviceTotalMem");
    devices.push_back({index, name, format_uuid(uuid), memory});
  }
  return devices;
}

void Runtime::enter(int device) const {
  CudaDevice handle = 0;
  CudaContext context = nullptr;
  cuda_.check(cuda_.device_get(&handle, device), "cuDeviceGet");
  cuda_.check(cuda_.primary_retain(&context, handle), "cuDevicePrimaryCtxRetain");
  cuda_.check(cuda_.set_current(context), "cuCtxSetCurrent");
}

MemoryInfo Runtime::memory(int device) const {
  enter(device);
  MemoryInfo info{};
  cuda_.check(cuda_.memory_info(&info.free, &info.total), "cuMemGetInfo");
  return info;
}

NcclUniqueId Runtime::unique_id() const {
  const WatchedCall inside("ncclGetUniqueId");
  NcclUniqueId id{};
  const int result = StrayRoots::of_process().while_counting([&] { return nccl_.get_unique_id(&id); });
  if (result == nccl::kSuccess) return id;
  const auto text = nccl_.describe(result);
  Details facts{{"ncclResult", double(result)}};
  if (auto remedy = nccl_remedy(result, text); !remedy.empty()) facts["remedy"] = std::move(remedy);
  throw Error(code::kNcclFailed, "ncclGetUniqueId failed: " + text, facts);
}

}  // namespace weightcast
