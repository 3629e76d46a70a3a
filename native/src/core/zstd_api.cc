#include "core/zstd_api.h"

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
  require(compress_, "ZSTD_compress");
  require(decompress_, "ZSTD_decompress");
  require(compress_bound_, "ZSTD_compressBound");
  require(is_error_, "ZSTD_isError");
  require(version_number_, "ZSTD_versionNumber");
}

std::size_t ZstdApi::compress(void* target, std::size_t room, const void* from, std::size_t length) const {
  const std::size_t size = compress_(target, room, from, length, kLevel);
  return is_error_(size) != 0 ? 0 : size;
}

bool ZstdApi::decompress(void* target, std::size_t length, const void* from, std::size_t stored) const {
  return decompress_(target, length, from, stored) == length;  // errors are far above any length
}

}  // namespace weightcast
