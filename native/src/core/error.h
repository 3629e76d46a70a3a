// The one error of the core; the binding turns it into a WeightcastError.
#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace weightcast {

/// Codes of src/errors.ts.
namespace code {
inline constexpr const char* kNcclNotFound = "WC_NCCL_NOT_FOUND";
inline constexpr const char* kNcclTooOld = "WC_NCCL_TOO_OLD";
inline constexpr const char* kCudaNoDriver = "WC_CUDA_NO_DRIVER";
inline constexpr const char* kCudaNoDevice = "WC_CUDA_NO_DEVICE";
inline constexpr const char* kCudaFailed = "WC_CUDA_FAILED";
inline constexpr const char* kCudaOutOfMemory = "WC_CUDA_OUT_OF_MEMORY";
inline constexpr const char* kNcclFailed = "WC_NCCL_FAILED";
inline constexpr const char* kNcclTimeout = "WC_NCCL_TIMEOUT";
inline constexpr const char* kNcclAborted = "WC_NCCL_ABORTED";
inline constexpr const char* kClosed = "WC_NATIVE_CLOSED";
inline constexpr const char* kStuck = "WC_NATIVE_STUCK";
inline constexpr const char* kLimit = "WC_NATIVE_LIMIT";
inline constexpr const char* kArgument = "WC_NATIVE_ARGUMENT";
inline constexpr const char* kThreadRefused = "WC_THREAD_REFUSED";
inline constexpr const char* kFileRead = "WC_FILE_READ";
inline constexpr const char* kFileWrite = "WC_FILE_WRITE";
inline constexpr const char* kCheckpointChanged = "WC_CHECKPOINT_CHANGED";
inline constexpr const char* kConfig = "WC_CONFIG_INVALID";
inline constexpr const char* kDeltaInvalid = "WC_DELTA_INVALID";
inline constexpr const char* kZstdNotFound = "WC_ZSTD_NOT_FOUND";
}  // namespace code

using Detail = std::variant<double, std::string, std::vector<std::string>>;
using Details = std::map<std::string, Detail>;

class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message, Details details = {})
      : std::runtime_error(message), code_(code), details_(std::move(details)) {}

  const char* code() const noexcept { return code_; }
  bool is(std::string_view code) const noexcept { return code == code_; }
  const Details& details() const noexcept { return details_; }

 private:
  const char* code_;
  Details details_;
};

}  // namespace weightcast
