#include "core/variables.h"

#include <cstdlib>

namespace weightcast {
namespace {

constexpr const char* kNames[] = {
    "WEIGHTCAST_CUDA_LIBRARY", "WEIGHTCAST_NCCL_LIBRARY", "WEIGHTCAST_ZSTD_LIBRARY", "VIRTUAL_ENV",
    "CONDA_PREFIX",            "HOME",                    "NCCL_COMM_ID",            "NCCL_COMM_BLOCKING",
};

}  // namespace

Variables Variables::now() {
  Variables variables;
  for (const char* name : kNames) {
    if (const char* value = std::getenv(name); value != nullptr) variables.values_.emplace(name, value);
  }
  return variables;
}

const std::string* Variables::find(std::string_view name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? nullptr : &found->second;
}

std::string Variables::text(std::string_view name) const {
  const auto* value = find(name);
  return value == nullptr ? "" : *value;
}

}  // namespace weightcast
