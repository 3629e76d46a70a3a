#include "binding/values.h"

#include <cstring>

namespace weightcast::binding {
namespace {

/// An external ArrayBuffer costs some microseconds; a copy of this size costs as much.
constexpr std::size_t kCopyBelow = 64 << 10;

}  // namespace

Napi::Value to_bytes(Napi::Env env, const void* data, std::size_t length) {
  auto buffer = Napi::ArrayBuffer::New(env, length);
  if (length > 0) std::memcpy(buffer.Data(), data, length);
  return Napi::Uint8Array::New(env, length, buffer, 0);
}

Napi::Value to_bytes(Napi::Env env, Bytes bytes) {
  if (bytes.length < kCopyBelow) return to_bytes(env, bytes.data.get(), bytes.length);
  auto* data = bytes.data.release();  // freed by the finalizer, which runs even when the creation fails
  auto buffer = Napi::ArrayBuffer::New(env, data, bytes.length, [](Napi::BasicEnv, void* memory) {
    delete[] static_cast<std::uint8_t*>(memory);
  });
  return Napi::Uint8Array::New(env, bytes.length, buffer, 0);
}

Napi::Value to_digests(Napi::Env env, const std::vector<Digest>& digests) {
  static_assert(sizeof(Digest) == 32);
  return to_bytes(env, digests.data(), digests.size() * sizeof(Digest));
}

}  // namespace weightcast::binding
