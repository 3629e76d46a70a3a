// Where libcuda and libnccl usually are.
#pragma once

#include "core/library.h"
#include "core/variables.h"

namespace weightcast {

/// `explicit_path` empty: the environment variable, else a search.
LibraryQuery cuda_query(const std::string& explicit_path, const Variables& variables);
LibraryQuery nccl_query(const std::string& explicit_path, const Variables& variables);

}  // namespace weightcast
