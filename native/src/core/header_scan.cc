#include "core/header_scan.h"

#include <algorithm>

#include "core/name_set.h"

namespace weightcast {
namespace {

constexpr std::string_view kOffsets = R"(],"data_offsets":[)";
/// Of the shortest tensor, with the comma before it.
constexpr std::size_t kMinEntryBytes =
    std::string_view(R"(,"":{"dtype":"U8","shape":[],"data_offsets":[0,0]})").size();
constexpr std::size_t kMaxNameBytes = 4096;
/// Of a number that is surely below 2^53.
constexpr int kMaxDigits = 15;
constexpr std::uint64_t kMaxElements = std::uint64_t(1) << 53;
constexpr std::size_t kMaxDimensions = 64;

class Scan {
 public:
  Scan(const HeaderText& header, const std::vector<HeaderDtype>& dtypes)
      : left_(header.json.substr(header.from)),
        data_bytes_(header.data_bytes),
        dtypes_(dtypes),
        seen_(left_.size() / kMinEntryBytes + 1) {
    for (const auto& dtype : dtypes) openings_.push_back("\":{\"dtype\":\"" + dtype.name + "\",\"shape\":[");
    const std::size_t most = left_.size() / kMinEntryBytes + 1;
    columns_.names.reserve(left_.size());
    columns_.name_ends.reserve(most);
    columns_.dtypes.reserve(most);
    columns_.dimension_ends.reserve(most);
    columns_.begins.reserve(most);
    columns_.ends.reserve(most);
  }

  std::optional<HeaderColumns> run(const std::atomic<bool>& stop) {
    if (!take("{") && !take(",")) return std::nullopt;
    do {
      if (stop || !entry()) return std::nullopt;
    } while (take(","));
    if (!take("}") || left_.find_first_not_of(' ') != left_.npos || end_ != data_bytes_) return std::nullopt;
    return std::move(columns_);
  }

 private:
  bool entry() { return name() && dtype() && shape() && take(kOffsets) && offsets(); }

  bool name() {
    if (!take("\"")) return false;
    const std::size_t limit = std::min(left_.size(), kMaxNameBytes);
    std::size_t length = 0;
    while (length < limit && left_[length] != '"') {
      if (left_[length] == '\\' || std::uint8_t(left_[length]) < 0x20) return false;
      length += 1;
    }
    const auto name = left_.substr(0, length);
    if (length == limit || name == "__metadata__" || !seen_.add(name)) return false;
    columns_.names.insert(columns_.names.end(), name.begin(), name.end());
    columns_.name_ends.push_back(std::uint32_t(columns_.names.size()));
    left_.remove_prefix(length);
    return true;
  }

  /// From the quote that ends the name to the bracket that opens the shape.
  bool dtype() {
    if (!take(openings_[dtype_])) {  // mostly that of the tensor before
      const auto found =
          std::find_if(openings_.begin(), openings_.end(), [this](auto& text) { return take(text); });
      if (found == openings_.end()) return false;
      dtype_ = std::size_t(found - openings_.begin());
    }
    columns_.dtypes.push_back(std::uint8_t(dtype_));
    return true;
  }

  bool shape() {
    elements_ = 1;
    if (!left_.starts_with(']')) {
      std::size_t rank = 0;
      do {
        const auto extent = integer();
        if (!extent || ++rank > kMaxDimensions) return false;
        if (__builtin_mul_overflow(elements_, *extent, &elements_) || elements_ > kMaxElements) return false;
        columns_.dimensions.push_back(double(*extent));
      } while (take(","));
    }
    columns_.dimension_ends.push_back(std::uint32_t(columns_.dimensions.size()));
    return true;
  }

  bool offsets() {
    const auto begin = integer();
    if (!begin || *begin != end_ || !take(",")) return false;
    const auto end = integer();
    if (!end || *end < *begin || !take("]}")) return false;
    if (elements_ * dtypes_[dtype_].bits != 8 * (*end - *begin)) return false;
    columns_.begins.push_back(double(*begin));
    columns_.ends.push_back(double(*end));
    end_ = *end;
    return true;
  }

  bool take(std::string_view expected) {
    if (!left_.starts_with(expected)) return false;
    left_.remove_prefix(expected.size());
    return true;
  }

  std::optional<std::uint64_t> integer() {
    std::uint64_t value = 0;
    std::size_t digits = 0;
    for (; digits < left_.size() && left_[digits] >= '0' && left_[digits] <= '9'; ++digits) {
      if (digits == kMaxDigits) return std::nullopt;
      value = 10 * value + std::uint64_t(left_[digits] - '0');
    }
    if (digits == 0 || (digits > 1 && left_[0] == '0')) return std::nullopt;
    left_.remove_prefix(digits);
    return value;
  }

  std::string_view left_;
  const std::uint64_t data_bytes_;
  const std::vector<HeaderDtype>& dtypes_;
  std::vector<std::string> openings_;
  NameSet seen_;
  HeaderColumns columns_;
  /// Of the tensor being read.
  std::size_t dtype_ = 0;
  std::uint64_t elements_ = 0;
  /// Of the tensor before.
  std::uint64_t end_ = 0;
};

}  // namespace

std::optional<HeaderColumns> scan_header(const HeaderText& header, const std::vector<HeaderDtype>& dtypes,
                                         const std::atomic<bool>& stop) {
  if (dtypes.empty() || header.from > header.json.size()) return std::nullopt;
  return Scan(header, dtypes).run(stop);
}

}  // namespace weightcast
