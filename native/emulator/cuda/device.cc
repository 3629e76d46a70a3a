#include "cuda/device.h"

#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "common/environment.h"
#include "common/faults.h"

namespace emulator::cuda {
namespace {

constexpr const char* kName = "weightcast emulated device (host memory, no GPU)";
constexpr int kDriverVersion = 13000;

std::atomic<bool> initialized{false};

/** Physical indices in the order CUDA_VISIBLE_DEVICES gives; like the real driver, the list ends at the first
 * bad entry. */
std::vector<int> visible_devices() {
  const int installed = static_cast<int>(
      std::min<long long>(environment_number("WEIGHTCAST_EMULATOR_DEVICES", 8), kMaxDevices));
  std::vector<int> indices;
  const char* list = std::getenv("CUDA_VISIBLE_DEVICES");
  if (list == nullptr) {
    for (int i = 0; i < installed; ++i) indices.push_back(i);
    return indices;
  }
  for (const char* at = list; *at != '\0';) {
    char* end = nullptr;
    const long index = std::strtol(at, &end, 10);
    if (end == at || index < 0 || index >= installed) break;
    indices.push_back(static_cast<int>(index));
    if (*end != ',') break;
    at = end + 1;
  }
  return indices;
}

const std::vector<int>& devices() {
  static const std::vector<int>& list = *new std::vector<int>(visible_devices());
  return list;
}

std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char c : text) hash = (hash ^ c) * 0x100000001b3;
  return hash;
}

/** The same in every process of this host, different on another host. */
CUuuid uuid_of(int physical) {
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  const std::string seed = std::string(host) + "/emulated-device/" + std::to_string(physical);
  const std::uint64_t halves[2] = {fnv1a(seed), fnv1a(seed + "/low")};
  CUuuid uuid;
  std::memcpy(uuid.bytes, halves, sizeof uuid.bytes);
  uuid.bytes[6] = static_cast<unsigned char>((uuid.bytes[6] & 0x0f) | 0x40);
  uuid.bytes[8] = static_cast<unsigned char>((uuid.bytes[8] & 0x3f) | 0x80);
  return uuid;
}

int attribute(int which, int physical) {
  switch (which) {
    case 1:
      return 1024;  // MAX_THREADS_PER_BLOCK
    case 10:
      return 32;  // WARP_SIZE
    case 16:
      return 1;  // MULTIPROCESSOR_COUNT
    case 19:
      return 1;  // CAN_MAP_HOST_MEMORY
    case 31:
      return 1;  // CONCURRENT_KERNELS
    case 33:
      return physical + 1;  // PCI_BUS_ID
    case 40:
      return 1;  // ASYNC_ENGINE_COUNT
    case 41:
      return 1;  // UNIFIED_ADDRESSING
    case 75:
      return 9;  // COMPUTE_CAPABILITY_MAJOR
    case 76:
      return 0;  // COMPUTE_CAPABILITY_MINOR
    default:
      return 0;  // every other feature: absent
  }
}

}  // namespace

CUresult check_initialized() { return initialized.load() ? kSuccess : kNotInitialized; }

CUresult check_device(CUdevice device) {
  if (const auto error = check_initialized()) return error;
  return device >= 0 && device < device_count() ? kSuccess : kInvalidDevice;
}

int device_count() { return static_cast<int>(devices().size()); }

std::size_t machine_memory() {
  struct sysinfo info = {};
  sysinfo(&info);
  return static_cast<std::size_t>(info.totalram) * info.mem_unit;
}

std::size_t available_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    unsigned long long kib = 0;
    if (std::sscanf(line.c_str(), "MemAvailable: %llu", &kib) == 1) return kib * 1024;
  }
  return machine_memory();
}

}  // namespace emulator::cuda

using namespace emulator::cuda;

EMULATED const char* weightcast_emulation() { return EMULATION_SENTENCE; }

EMULATED CUresult cuInit(unsigned flags) {
  emulator::hang_if_told("cuInit");
  if (flags != 0) return kInvalidValue;
  if (emulator::faults().no_driver) return kSystemDriverMismatch;
  if (emulator::faults().no_device || device_count() == 0) return kNoDevice;
  initialized = true;
  return kSuccess;
}

EMULATED CUresult cuDriverGetVersion(int* version) {
  if (version == nullptr) return kInvalidValue;
  *version = kDriverVersion;
  return kSuccess;
}

EMULATED CUresult cuDeviceGetCount(int* count) {
  if (const auto error = check_initialized()) return error;
  if (count == nullptr) return kInvalidValue;
  *count = device_count();
  return kSuccess;
}

EMULATED CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  if (const auto error = check_device(ordinal)) return error;
  if (device == nullptr) return kInvalidValue;
  *device = ordinal;
  return kSuccess;
}

EMULATED CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  if (const auto error = check_device(device)) return error;
  if (name == nullptr || length <= 0) return kInvalidValue;
  std::snprintf(name, static_cast<std::size_t>(length), "%s", kName);
  return kSuccess;
}

EMULATED CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  if (const auto error = check_device(device)) return error;
  if (uuid == nullptr) return kInvalidValue;
  *uuid = uuid_of(devices()[static_cast<std::size_t>(device)]);
  return kSuccess;
}

EMULATED CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) { return cuDeviceGetUuid_v2(uuid, device); }

EMULATED CUresult cuDeviceTotalMem_v2(std::size_t* bytes, CUdevice device) {
  if (const auto error = check_device(device)) return error;
  if (bytes == nullptr) return kInvalidValue;
  *bytes = machine_memory();
  return kSuccess;
}

EMULATED CUresult cuDeviceGetAttribute(int* value, int which, CUdevice device) {
  if (const auto error = check_device(device)) return error;
  if (value == nullptr || which <= 0) return kInvalidValue;
  *value = attribute(which, devices()[static_cast<std::size_t>(device)]);
  return kSuccess;
}

EMULATED CUresult cuDeviceGetPCIBusId(char* text, int length, CUdevice device) {
  if (const auto error = check_device(device)) return error;
  if (text == nullptr || length <= 0) return kInvalidValue;
  std::snprintf(text, static_cast<std::size_t>(length), "0000:%02x:00.0",
                devices()[static_cast<std::size_t>(device)] + 1);
  return kSuccess;
}

EMULATED CUresult cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
  if (const auto error = check_device(device)) return error;
  if (const auto error = check_device(peer)) return error;
  if (can == nullptr) return kInvalidValue;
  *can = 0;
  return kSuccess;
}
