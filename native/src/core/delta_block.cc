#include "core/delta_block.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/element_changes.h"

namespace weightcast {
namespace {

enum class Method : std::uint8_t { raw = 0, fill = 1, zstd = 2 };
constexpr std::size_t kPlaneHeader = 5;
constexpr std::size_t kMostGapPlanes = 4;
/// Below this zstd's own header is most of what it would give.
constexpr std::size_t kLeastToCompress = 64;

/// Small differences of either sign become small numbers.
template <class Element>
Element fold(Element difference) {
  constexpr int kTop = int(sizeof(Element)) * 8 - 1;
  return Element(Element(difference << 1) ^ Element(Element(0) - Element(difference >> kTop)));
}
template <class Element>
Element unfold(Element folded) {
  return Element(Element(folded >> 1) ^ Element(Element(0) - Element(folded & 1)));
}

template <class Element>
Element load(const std::uint8_t* from, std::size_t index) {
  Element element;
  std::memcpy(&element, from + index * sizeof element, sizeof element);
  return element;
}

template <class Element>
void split_differences(const std::uint8_t* base, const std::uint8_t* now,
                       std::span<const std::uint32_t> positions, std::uint8_t* planes) {
  const std::size_t count = positions.size();
  for (std::size_t i = 0; i < count; ++i) {
    const auto difference = Element(load<Element>(now, positions[i]) - load<Element>(base, positions[i]));
    const Element folded = fold(difference);
    for (std::size_t byte = 0; byte < sizeof(Element); ++byte) {
      planes[byte * count + i] = std::uint8_t(folded >> (8 * byte));
    }
  }
}

/// The function for elements of so many bytes.
template <class Call>
auto with_element(unsigned element_bytes, Call call) {
  switch (element_bytes) {
    case 1:
      return call.template operator()<std::uint8_t>();
    case 2:
      return call.template operator()<std::uint16_t>();
    case 4:
      return call.template operator()<std::uint32_t>();
    default:
      return call.template operator()<std::uint64_t>();
  }
}

}  // namespace

DeltaBlockEncoder::DeltaBlockEncoder(const ZstdApi* zstd) : zstd_(zstd) {
  if (zstd != nullptr) compressor_.emplace(*zstd);
}

std::size_t DeltaBlockEncoder::encode(const std::uint8_t* base, const std::uint8_t* now, std::size_t length,
                                      unsigned element_bytes) {
  bytes_.clear();
  positions_.resize(std::max(positions_.size(), length / element_bytes));
  const auto count = ElementChanges::find(base, now, length, element_bytes, positions_.data());
  if (count == 0) return 0;
  const std::span positions(positions_.data(), count);

  std::uint32_t widest = positions[0];
  for (std::size_t i = 1; i < count; ++i) widest = std::max(widest, positions[i] - positions[i - 1] - 1);
  const auto gap_planes = std::max<std::size_t>(1, (std::size_t(std::bit_width(widest)) + 7) / 8);
  bytes_.push_back(std::uint8_t(gap_planes));
  plane_.resize(std::max(plane_.size(), count * std::max<std::size_t>(gap_planes, element_bytes)));
  std::uint32_t next = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t gap = positions[i] - next;
    next = positions[i] + 1;
    for (std::size_t byte = 0; byte < gap_planes; ++byte) {
      plane_[byte * count + i] = std::uint8_t(gap >> (8 * byte));
    }
  }
  for (std::size_t i = 0; i < gap_planes; ++i) add_plane({plane_.data() + i * count, count});
  with_element(element_bytes,
               [&]<class Element>() { split_differences<Element>(base, now, positions, plane_.data()); });
  for (std::size_t i = 0; i < element_bytes; ++i) add_plane({plane_.data() + i * count, count});
  return count;
}

void DeltaBlockEncoder::add_plane(std::span<const std::uint8_t> plane) {
  const std::size_t at = bytes_.size();
  Method method = Method::raw;
  std::size_t stored = plane.size();
  if (std::all_of(plane.begin(), plane.end(), [&](auto byte) { return byte == plane[0]; })) {
    method = Method::fill;
    stored = 1;
  } else if (compressor_ && plane.size() >= kLeastToCompress) {
    const std::size_t room = zstd_->bound(plane.size());
    bytes_.resize(at + kPlaneHeader + room);
    const auto size = compressor_->compress(bytes_.data() + at + kPlaneHeader, room, plane.data(), plane.size());
    if (size != 0 && size < stored) {
      method = Method::zstd;
      stored = size;
    }
  }
  bytes_.resize(at + kPlaneHeader + stored);
  bytes_[at] = std::uint8_t(method);
  const auto stored32 = std::uint32_t(stored);
  std::memcpy(bytes_.data() + at + 1, &stored32, sizeof stored32);
  if (method != Method::zstd) std::memcpy(bytes_.data() + at + kPlaneHeader, plane.data(), stored);
}

DeltaBlockDecoder::DeltaBlockDecoder(const ZstdApi* zstd) {
  if (zstd != nullptr) decompressor_.emplace(*zstd);
}

const char* DeltaBlockDecoder::begin(std::span<const std::uint8_t> bytes, std::size_t changes,
                                     unsigned element_bytes, std::size_t length) {
  if (changes > length / element_bytes) return "more changes than elements";
  if (bytes.empty()) return "no bytes";
  gap_planes_ = bytes[0];
  if (gap_planes_ == 0 || gap_planes_ > kMostGapPlanes) return "an unknown width of its gaps";
  bytes = bytes.subspan(1);
  const std::size_t planes = gap_planes_ + element_bytes;
  planes_.resize(std::max(planes_.size(), planes * changes));
  for (std::size_t i = 0; i < planes; ++i) {
    const auto* wrong = take_plane(bytes, {planes_.data() + i * changes, changes});
    if (wrong != nullptr) return wrong;
  }
  if (!bytes.empty()) return "bytes left over";
  changes_ = changes;
  element_bytes_ = element_bytes;
  done_ = change_ = 0;
  at_ = changes > 0 ? gap(0) : 0;
  return nullptr;
}

std::size_t DeltaBlockDecoder::gap(std::size_t change) const {
  std::size_t gap = 0;
  for (std::size_t byte = 0; byte < gap_planes_; ++byte) {
    gap |= std::size_t(planes_[byte * changes_ + change]) << (8 * byte);
  }
  return gap;
}

void DeltaBlockDecoder::apply(std::span<std::uint8_t> part) {
  with_element(element_bytes_, [&]<class Element>() { add<Element>(part); });
}

template <class Element>
void DeltaBlockDecoder::add(std::span<std::uint8_t> part) {
  const std::uint8_t* differences = planes_.data() + gap_planes_ * changes_;
  const std::size_t end = done_ + part.size() / sizeof(Element);
  while (change_ < changes_ && at_ < end) {
    Element folded = 0;
    for (std::size_t byte = 0; byte < sizeof(Element); ++byte) {
      folded = Element(folded | Element(Element(differences[byte * changes_ + change_]) << (8 * byte)));
    }
    const std::size_t at = at_ - done_;
    const auto element = Element(load<Element>(part.data(), at) + unfold(folded));
    std::memcpy(part.data() + at * sizeof element, &element, sizeof element);
    if (++change_ < changes_) at_ += 1 + gap(change_);
  }
  done_ = end;
}

const char* DeltaBlockDecoder::finish() const {
  return change_ == changes_ ? nullptr : "a change behind its end";
}

const char* DeltaBlockDecoder::take_plane(std::span<const std::uint8_t>& bytes,
                                          std::span<std::uint8_t> plane) {
  if (bytes.size() < kPlaneHeader) return "too few bytes";
  const auto method = Method(bytes[0]);
  std::uint32_t stored = 0;
  std::memcpy(&stored, bytes.data() + 1, sizeof stored);
  bytes = bytes.subspan(kPlaneHeader);
  if (stored > bytes.size()) return "too few bytes";
  const auto from = bytes.first(stored);
  bytes = bytes.subspan(stored);
  switch (method) {
    case Method::raw:
      if (stored != plane.size()) return "a stream of another length";
      std::copy(from.begin(), from.end(), plane.begin());
      return nullptr;
    case Method::fill:
      if (stored != 1) return "a stream of another length";
      std::fill(plane.begin(), plane.end(), from[0]);
      return nullptr;
    case Method::zstd:
      if (!decompressor_) return "a compressed stream in a file without compression";
      if (!decompressor_->decompress(plane.data(), plane.size(), from.data(), stored)) {
        return "a stream that zstd can't decompress";
      }
      return nullptr;
  }
  return "an unknown compression";
}

}  // namespace weightcast
