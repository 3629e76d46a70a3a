#include "nccl/data_type.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace emulator::nccl {
namespace {

/** A small float format, computed in float: sign, exponent and mantissa bits as the format has them. */
template <typename Bits, int kExponentBits, int kMantissaBits, bool kHasInfinity>
struct SmallFloat {
  Bits bits;

  static constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  static constexpr int kTopExponent = (1 << kExponentBits) - 1;
  static constexpr int kSignShift = kExponentBits + kMantissaBits;
  static constexpr int kMantissaMask = (1 << kMantissaBits) - 1;

  operator float() const {
    const int exponent = (bits >> kMantissaBits) & kTopExponent;
    const int mantissa = bits & kMantissaMask;
    const float sign = (bits >> kSignShift) & 1 ? -1.0f : 1.0f;
    if (exponent == kTopExponent) {
      if (kHasInfinity && mantissa == 0) return sign * INFINITY;
      if (kHasInfinity || mantissa == kMantissaMask) return NAN;
    }
    if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), 1 - kBias - kMantissaBits);
    return sign *
           std::ldexp(static_cast<float>(mantissa | (1 << kMantissaBits)), exponent - kBias - kMantissaBits);
  }

  SmallFloat() = default;
  SmallFloat(float value) {
    const int sign = std::signbit(value) ? 1 << kSignShift : 0;
    const int infinity =
        kHasInfinity ? kTopExponent << kMantissaBits : (kTopExponent << kMantissaBits) | kMantissaMask;
    const int nan =
        (kTopExponent << kMantissaBits) | (kHasInfinity ? 1 << (kMantissaBits - 1) : kMantissaMask);
    const float magnitude = std::fabs(value);
    int encoded = 0;
    if (std::isnan(value)) {
      encoded = nan;
    } else if (std::isinf(value)) {
      encoded = infinity;
    } else if (magnitude != 0) {
      const int exponent = std::max(std::ilogb(magnitude), 1 - kBias);
      // Rounds to nearest, ties to even; a mantissa that overflows carries into the exponent by itself.
      const auto scaled = static_cast<int>(std::nearbyint(std::ldexp(magnitude, kMantissaBits - exponent)));
      encoded = ((exponent + kBias - 1) << kMantissaBits) + scaled;
      encoded = std::min(encoded, infinity);
    }
    bits = static_cast<Bits>(sign | encoded);
  }
};

using Float16 = SmallFloat<std::uint16_t, 5, 10, true>;
using Float8e4m3 = SmallFloat<std::uint8_t, 4, 3, false>;
using Float8e5m2 = SmallFloat<std::uint8_t, 5, 2, true>;

struct Bfloat16 {
  std::uint16_t bits;
  operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
  Bfloat16() = default;
  Bfloat16(float value) {
    const auto wide = std::bit_cast<std::uint32_t>(value);
    const bool nan = std::isnan(value);
    bits = static_cast<std::uint16_t>(nan ? (wide >> 16) | 0x40 : (wide + 0x7fff + ((wide >> 16) & 1)) >> 16);
  }
};

template <typename T>
struct Computed {
  using type = float;
};
template <typename T>
  requires std::is_integral_v<T>
struct Computed<T> {
  // Unsigned, so that a sum wraps as it does on a device.
  using type = T;
};
template <>
struct Computed<double> {
  using type = double;
};

template <typename T>
T combine(ncclRedOp_t op, T left, T right) {
  using C = typename Computed<T>::type;
  const C a = left, b = right;
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    if (op == kSum || op == kAvg) return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
    if (op == kProd) return static_cast<T>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
  } else {
    if (op == kSum || op == kAvg) return T(a + b);
    if (op == kProd) return T(a * b);
  }
  return op == kMax ? T(std::max(a, b)) : T(std::min(a, b));
}

template <typename T>
T divide(T value, int by) {
  using C = typename Computed<T>::type;
  return static_cast<T>(static_cast<C>(value) / static_cast<C>(by));
}

template <typename Use>
void with_type(ncclDataType_t type, Use use) {
  switch (type) {
    case kInt8:
      return use(std::int8_t{});
    case kUint8:
      return use(std::uint8_t{});
    case kInt32:
      return use(std::int32_t{});
    case kUint32:
      return use(std::uint32_t{});
    case kInt64:
      return use(std::int64_t{});
    case kUint64:
      return use(std::uint64_t{});
    case kFloat16:
      return use(Float16{});
    case kFloat32:
      return use(float{});
    case kFloat64:
      return use(double{});
    case kBfloat16:
      return use(Bfloat16{});
    case kFloat8e4m3:
      return use(Float8e4m3{});
    case kFloat8e5m2:
      return use(Float8e5m2{});
    default:
      return;
  }
}

/** Applies `change` to every element. Buffers may be unaligned, hence the copies, which compilers remove. */
template <typename T, typename Change>
void for_each(std::byte* values, std::size_t bytes, Change change) {
  for (std::size_t at = 0; at + sizeof(T) <= bytes; at += sizeof(T)) {
    T value;
    std::memcpy(&value, values + at, sizeof value);
    value = change(value, at);
    std::memcpy(values + at, &value, sizeof value);
  }
}

}  // namespace

std::size_t element_bytes(ncclDataType_t type) {
  constexpr int kFirstVersionWithFloat8 = 22403;
  if (type >= kFloat8e4m3 && version() < kFirstVersionWithFloat8) return 0;
  std::size_t bytes = 0;
  with_type(type, [&](auto element) { bytes = sizeof element; });
  return bytes;
}

void reduce(ncclDataType_t type, ncclRedOp_t op, std::byte* accumulator, const std::byte* values,
            std::size_t bytes) {
  with_type(type, [&](auto element) {
    using T = decltype(element);
    for_each<T>(accumulator, bytes, [&](T left, std::size_t at) {
      T right;
      std::memcpy(&right, values + at, sizeof right);
      return combine<T>(op, left, right);
    });
  });
}

void finish_average(ncclDataType_t type, std::byte* accumulator, std::size_t bytes, int ranks) {
  with_type(type, [&](auto element) {
    using T = decltype(element);
    for_each<T>(accumulator, bytes, [&](T value, std::size_t) { return divide<T>(value, ranks); });
  });
}

}  // namespace emulator::nccl
