#include "binding/header.h"

#include "binding/arguments.h"
#include "binding/environment.h"
#include "core/header_job.h"

namespace weightcast::binding {
namespace {

/// The vector's own memory: a header has columns of megabytes.
template <class Array, class Element>
Array adopt(Napi::Env env, std::vector<Element> column) {
  if (column.empty()) return Array::New(env, 0);
  const auto owned = new std::vector<Element>(std::move(column));  // freed by the finalizer
  const auto buffer = Napi::ArrayBuffer::New(
      env, owned->data(), owned->size() * sizeof(Element),
      [](Napi::BasicEnv, void*, std::vector<Element>* memory) { delete memory; }, owned);
  return Array::New(env, owned->size(), buffer, 0);
}

Napi::Value to_columns(Napi::Env env, HeaderJob::Result found) {
  if (!found) return env.Null();
  auto result = Napi::Object::New(env);
  result.Set("count", double(found->begins.size()));
  result.Set("names", adopt<Napi::Uint8Array>(env, std::move(found->names)));
  result.Set("nameEnds", adopt<Napi::Uint32Array>(env, std::move(found->name_ends)));
  result.Set("dtypes", adopt<Napi::Uint8Array>(env, std::move(found->dtypes)));
  result.Set("dimensions", adopt<Napi::Float64Array>(env, std::move(found->dimensions)));
  result.Set("dimensionEnds", adopt<Napi::Uint32Array>(env, std::move(found->dimension_ends)));
  result.Set("begins", adopt<Napi::Float64Array>(env, std::move(found->begins)));
  result.Set("ends", adopt<Napi::Float64Array>(env, std::move(found->ends)));
  return result;
}

std::vector<HeaderDtype> to_dtypes(const Napi::Object& job) {
  const auto names = texts(property(job, "dtypes"), "dtypes");
  const auto bits = bytes(property(job, "dtypeBits"), "dtypeBits");
  if (bits.size() != names.size() || names.size() > 256) {
    refuse("dtypeBits", "one for each of at most 256 dtypes");
  }
  std::vector<HeaderDtype> dtypes;
  for (std::size_t i = 0; i < names.size(); ++i) dtypes.push_back({names[i], bits[i]});
  return dtypes;
}

}  // namespace

Napi::Value start_header_scan(const Napi::CallbackInfo& info) {
  const auto job = object(info[0], "job");
  const auto header = property(job, "header");
  const auto json = bytes(header, "header");
  const HeaderText text{{reinterpret_cast<const char*>(json.data()), json.size()},
                        integer(job, "from", json.size()),
                        integer(job, "dataBytes")};
  auto dtypes = to_dtypes(job);
  return promise<HeaderJob::Result>(
      info, to_columns,
      [&](Done<HeaderJob::Result> done, OperationId) {
        Environment::of(info.Env()).adopt(HeaderJob::start(text, std::move(dtypes), std::move(done)));
      },
      {}, header);
}

}  // namespace weightcast::binding
