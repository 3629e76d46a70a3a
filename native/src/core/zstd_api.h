// libzstd, opened at run time: the few functions of its stable interface that deltas need (zstd.h, 1.0 and
// later).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/library.h"
#include "core/variables.h"

namespace weightcast {

class ZstdApi {
 public:
  /// WEIGHTCAST_ZSTD_LIBRARY, or the soname. @throws Error(WC_ZSTD_NOT_FOUND)
  static std::shared_ptr<const ZstdApi> open(const Variables& variables);

  const std::string& path() const { return library_.path(); }
  /// 10000 major + 100 minor + patch
  unsigned version() const { return version_number_(); }
  /// Of the room that `compress` needs for so many bytes.
  std::size_t bound(std::size_t length) const { return compress_bound_(length); }

 private:
  friend class ZstdCompressor;
  friend class ZstdDecompressor;

  struct Compressor;
  struct Decompressor;

  explicit ZstdApi(Library library);

  Library library_;
  Compressor* (*create_compressor_)() = nullptr;
  std::size_t (*free_compressor_)(Compressor*) = nullptr;
  std::size_t (*compress_)(Compressor*, void*, std::size_t, const void*, std::size_t, int) = nullptr;
  Decompressor* (*create_decompressor_)() = nullptr;
  std::size_t (*free_decompressor_)(Decompressor*) = nullptr;
  std::size_t (*decompress_)(Decompressor*, void*, std::size_t, const void*, std::size_t) = nullptr;
  std::size_t (*compress_bound_)(std::size_t) = nullptr;
  unsigned (*is_error_)(std::size_t) = nullptr;
  unsigned (*version_number_)() = nullptr;
};

/// Of one thread. Its tables are kept from call to call: to make them takes longer than to compress a plane.
class ZstdCompressor {
 public:
  /// `api` lives as long.
  explicit ZstdCompressor(const ZstdApi& api);

  /// Gives the compressed size, or 0 when `room` does not suffice.
  std::size_t compress(void* target, std::size_t room, const void* from, std::size_t length);

 private:
  const ZstdApi& api_;
  std::unique_ptr<ZstdApi::Compressor, std::size_t (*)(ZstdApi::Compressor*)> state_;
};

class ZstdDecompressor {
 public:
  explicit ZstdDecompressor(const ZstdApi& api);

  /// Exactly `length` bytes come of it; false when they don't.
  bool decompress(void* target, std::size_t length, const void* from, std::size_t stored);

 private:
  const ZstdApi& api_;
  std::unique_ptr<ZstdApi::Decompressor, std::size_t (*)(ZstdApi::Decompressor*)> state_;
};

}  // namespace weightcast
