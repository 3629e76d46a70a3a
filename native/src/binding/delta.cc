#include "binding/delta.h"

#include "binding/delta_plan.h"
#include "binding/file_job.h"
#include "binding/values.h"

namespace weightcast::binding {
namespace {

template <class Read>
Napi::Float64Array numbers(Napi::Env env, std::size_t count, Read read) {
  auto array = Napi::Float64Array::New(env, count);
  for (std::size_t i = 0; i < count; ++i) array[i] = double(read(i));
  return array;
}

Napi::Value to_sparse(Napi::Env env, const SparseDiff::Result& pairs) {
  auto result = Napi::Object::New(env);
  result.Set("changed", numbers(env, pairs.size(), [&](auto i) { return pairs[i].changed; }));
  result.Set("indicesOffset", numbers(env, pairs.size(), [&](auto i) { return pairs[i].indices_offset; }));
  result.Set("valuesOffset", numbers(env, pairs.size(), [&](auto i) { return pairs[i].values_offset; }));
  auto dense = Napi::Uint8Array::New(env, pairs.size());
  for (std::size_t i = 0; i < pairs.size(); ++i) dense[i] = pairs[i].dense ? 1 : 0;
  result.Set("dense", dense);
  return result;
}

Napi::Value to_encoded(Napi::Env env, const Encoded& encoded) {
  auto result = Napi::Object::New(env);
  result.Set("byteLength", double(encoded.file.size));
  result.Set("digest", to_bytes(env, encoded.file.digest.data(), encoded.file.digest.size()));
  result.Set("stored", numbers(env, encoded.stored.size(), [&](auto i) { return encoded.stored[i]; }));
  result.Set("changed", numbers(env, encoded.changed.size(), [&](auto i) { return encoded.changed[i]; }));
  return result;
}

/// Null where there is no libzstd, unless a path was given that does not work.
std::shared_ptr<const ZstdApi> zstd_if_present() {
  const auto variables = Variables::now();
  try {
    return ZstdApi::open(variables);
  } catch (const Error& error) {
    if (!error.is(code::kZstdNotFound) || !variables.text("WEIGHTCAST_ZSTD_LIBRARY").empty()) throw;
    return nullptr;
  }
}

}  // namespace

Napi::Value start_encode(const Napi::CallbackInfo& info) {
  auto plan = to_encode_plan(info[0]);
  const auto codec = text(property(object(info[0], "job"), "codec"), "codec");
  if (codec != "none" && codec != "zstd") refuse("codec", "none or zstd");
  if (codec == "zstd") plan.zstd = ZstdApi::open(Variables::now());
  return start_file_job<Encoded>(info, to_encoded, [&](auto progress, auto done) {
    return DeltaEncode::begin(std::move(plan), std::move(progress), std::move(done));
  });
}

Napi::Value start_apply(const Napi::CallbackInfo& info) {
  auto plan = to_apply_plan(info[0]);
  plan.zstd = zstd_if_present();
  return start_file_job<std::vector<Digest>>(info, to_digests, [&](auto progress, auto done) {
    return DeltaApply::begin(std::move(plan), std::move(progress), std::move(done));
  });
}

Napi::Value describe_zstd(const Napi::CallbackInfo& info) {
  const auto zstd = zstd_if_present();
  if (zstd == nullptr) return info.Env().Null();
  auto result = Napi::Object::New(info.Env());
  result.Set("path", zstd->path());
  result.Set("version", double(zstd->version()));
  return result;
}

Napi::Value start_diff(const Napi::CallbackInfo& info) {
  auto plan = to_sparse_plan(info[0]);
  return start_file_job<SparseDiff::Result>(info, to_sparse, [&](auto progress, auto done) {
    return SparseDiff::begin(std::move(plan), std::move(progress), std::move(done));
  });
}

}  // namespace weightcast::binding
