// Bytes on their way to JavaScript.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/sha256.h"
#include "napi_config.h"

namespace weightcast::binding {

struct Bytes {
  std::unique_ptr<std::uint8_t[]> data;
  std::size_t length;
};

Napi::Value to_bytes(Napi::Env env, const void* data, std::size_t length);
/// Without a copy when they are many.
Napi::Value to_bytes(Napi::Env env, Bytes bytes);
/// 32 bytes a digest, in order.
Napi::Value to_digests(Napi::Env env, const std::vector<Digest>& digests);

}  // namespace weightcast::binding
