#include "core/zstd_api.h"

#include <new>

#include "core/error.h"

namespace weightcast {
namespace {

/// The fastest of the levels that compress well; the streams are small.
constexpr int kLevel = 1;

}  // namespace

std::shared_ptr<const ZstdApi> ZstdApi::open(const Variables& variables) {
  const LibraryQuery query{
      .label = "zstd",
      .soname = "libzstd.so.1",
      .explicit_path = variables.text("WEIGHTCAST_ZSTD_LIBRARY"),
      .explicit_source = "WEIGHTCAST_ZSTD_LIBRARY",
      .patterns = {},
      .error_code = code::kZstdNotFound,
      .advice = "Install libzstd1 (Debian, Ubuntu) or libzstd (others), or set WEIGHTCAST_ZSTD_LIBRARY to the "
                "path of libzstd.so.1.",
  };
  return std::shared_ptr<const ZstdApi>(new ZstdApi(Library::open(query)));
}

ZstdApi::ZstdApi(Library library) : library_(std::move(library)) {
  const auto require = [this](auto*& function, const char* symbol) {
    if (library_.resolve(function, symbol)) return;
    throw Error(code::kZstdNotFound, library_.path() + " is not a usable libzstd: it lacks " + symbol);
  };
  require(create_compressor_, "ZSTD_createCCtx");
  require(free_compressor_, "ZSTD_freeCCtx");
  require(compress_, "ZSTD_compressCCtx");
  require(create_decompressor_, "ZSTD_createDCtx");
  require(free_decompressor_, "ZSTD_freeDCtx");
  require(decompress_, "ZSTD_decompressDCtx");
  require(compress_bound_, "ZSTD_compressBound");
  require(is_error_, "ZSTD_isError");
  require(version_number_, "ZSTD_versionNumber");
}

ZstdCompressor::ZstdCompressor(const ZstdApi& api)
    : api_(api), state_(api.create_compressor_(), api.free_compressor_) {
  if (state_ == nullptr) throw std::bad_alloc();
}

std::size_t ZstdCompressor::compress(void* target, std::size_t room, const void* from, std::size_t length) {
  const std::size_t size = api_.compress_(state_.get(), target, room, from, length, kLevel);
  return api_.is_error_(size) != 0 ? 0 : size;
}

ZstdDecompressor::ZstdDecompressor(const ZstdApi& api)
    : api_(api), state_(api.create_decompressor_(), api.free_decompressor_) {
  if (state_ == nullptr) throw std::bad_alloc();
}

bool ZstdDecompressor::decompress(void* target, std::size_t length, const void* from, std::size_t stored) {
  // Errors are far above any length.
  return api_.decompress_(state_.get(), target, length, from, stored) == length;
}

}  // namespace weightcast
