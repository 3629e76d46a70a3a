#include "binding/delta.h"

#include "binding/delta_plan.h"
#include "binding/file_job.h"

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

}  // namespace

Napi::Value start_diff(const Napi::CallbackInfo& info) {
  auto plan = to_sparse_plan(info[0]);
  return start_file_job<SparseDiff::Result>(info, to_sparse, [&](auto progress, auto done) {
    return SparseDiff::begin(std::move(plan), std::move(progress), std::move(done));
  });
}

}  // namespace weightcast::binding
