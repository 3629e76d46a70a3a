#include "core/library_places.h"

#include "core/error.h"

namespace weightcast {
namespace {

void choose(LibraryQuery& query, const std::string& explicit_path, const Variables& variables,
            const char* variable) {
  query.explicit_path = explicit_path.empty() ? variables.text(variable) : explicit_path;
  query.explicit_source = explicit_path.empty() ? variable : "the option";
}

/// The wheels nvidia-nccl-cu* put libnccl in <site-packages>/nvidia/nccl/lib.
std::vector<std::string> wheel_folders(const Variables& variables) {
  std::vector<std::string> prefixes;
  for (const char* variable : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    if (auto prefix = variables.text(variable); !prefix.empty()) prefixes.push_back(prefix);
  }
  if (auto home = variables.text("HOME"); !home.empty()) prefixes.push_back(home + "/.local");
  for (const char* prefix : {"/usr/local", "/usr", "/opt", "/opt/*"}) prefixes.emplace_back(prefix);
  std::vector<std::string> patterns;
  for (const auto& prefix : prefixes) {
    patterns.push_back(prefix + "/lib/python3*/site-packages/nvidia/nccl/lib/libnccl.so.2");
    patterns.push_back(prefix + "/lib/python3*/dist-packages/nvidia/nccl/lib/libnccl.so.2");
  }
  return patterns;
}

}  // namespace

LibraryQuery cuda_query(const std::string& explicit_path, const Variables& variables) {
  LibraryQuery query{
      .label = "the CUDA driver",
      .soname = "libcuda.so.1",
      .explicit_path = {},
      .explicit_source = {},
      .patterns = {"/usr/lib/*-linux-gnu/libcuda.so.1", "/usr/lib64/libcuda.so.1",
                   "/usr/local/nvidia/lib64/libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"},
      .error_code = code::kCudaNoDriver,
      .advice =
          "Install the NVIDIA driver (in a container: run it with GPUs), or set WEIGHTCAST_CUDA_LIBRARY to "
          "the "
          "path of libcuda.so.1.",
  };
  choose(query, explicit_path, variables, "WEIGHTCAST_CUDA_LIBRARY");
  return query;
}

LibraryQuery nccl_query(const std::string& explicit_path, const Variables& variables) {
  LibraryQuery query{
      .label = "NCCL",
      .soname = "libnccl.so.2",
      .explicit_path = {},
      .explicit_source = {},
      .patterns = wheel_folders(variables),
      .error_code = code::kNcclNotFound,
      .advice =
          "Install NCCL (pip install nvidia-nccl-cu13, or nvidia-nccl-cu12, or the libnccl2 package), or set "
          "WEIGHTCAST_NCCL_LIBRARY to the path of libnccl.so.2.",
  };
  choose(query, explicit_path, variables, "WEIGHTCAST_NCCL_LIBRARY");
  return query;
}

}  // namespace weightcast
