// Where libcuda and libnccl usually are.
#pragma once

#include "core/library.h"

namespace weightcast {

/// `explicit_path` empty: the environment variable, else a search.
LibraryQuery cuda_query(const std::string& explicit_path);
LibraryQuery nccl_query(const std::string& explicit_path);

}  // namespace weightcast
