// A quick way through the form in which the reference library, and so nearly every file, writes the tensors
// of a safetensors header, "name":{"dtype":"BF16","shape":[4,2],"data_offsets":[0,16]} without white space,
// in the order of their bytes. It judges nothing: whatever looks different, also by being wrong, is left to
// src/weights/header.ts.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weightcast {

struct HeaderDtype {
  std::string name;
  std::uint64_t bits;
};

/// HeaderColumns of src/weights/header/columns.ts; the rows are in the order of their bytes.
struct HeaderColumns {
  std::vector<std::uint8_t> names;
  std::vector<std::uint32_t> name_ends;
  std::vector<std::uint8_t> dtypes;
  std::vector<double> dimensions;
  std::vector<std::uint32_t> dimension_ends;
  std::vector<double> begins;
  std::vector<double> ends;
};

struct HeaderText {
  /// Valid UTF-8.
  std::string_view json;
  /// Of the brace or comma before the first tensor.
  std::size_t from;
  /// How many bytes follow the header in the file.
  std::uint64_t data_bytes;
};

/// Nothing where the header has another form, is not valid, or at a stop.
std::optional<HeaderColumns> scan_header(const HeaderText& header, const std::vector<HeaderDtype>& dtypes,
                                         const std::atomic<bool>& stop);

}  // namespace weightcast
