#include "binding/delta_plan.h"

#include <bit>
#include <limits>

#include "binding/arguments.h"

namespace weightcast::binding {
namespace {

constexpr std::uint64_t kMostThreads = 1024;

void read_files(const Napi::Object& job, DiffPlan& plan) {
  plan.files = texts(property(job, "files"), "files");
  plan.file_sizes = integers(property(job, "fileSizes"), "fileSizes");
  if (plan.file_sizes.size() != plan.files.size()) refuse("fileSizes", "one for each file");
  plan.threads = unsigned(integer(job, "threads", kMostThreads));
}

void expect_inside(const DiffPlan& plan, std::uint32_t file, std::uint64_t offset, std::uint64_t length) {
  if (file >= plan.files.size()) refuse("baseFile and newFile", "indices of files");
  const auto size = plan.file_sizes[file];
  if (offset > size || length > size - offset) refuse("a pair", "inside its files");
}

void read_pairs(const Napi::Object& job, DiffPlan& plan) {
  const auto base_files = words(property(job, "baseFile"), "baseFile");
  const auto base_offsets = integers(property(job, "baseOffset"), "baseOffset");
  const auto new_files = words(property(job, "newFile"), "newFile");
  const auto new_offsets = integers(property(job, "newOffset"), "newOffset");
  const auto lengths = integers(property(job, "length"), "length");
  const auto elements = bytes(property(job, "elementBytes"), "elementBytes");
  const auto count = lengths.size();
  for (const auto size :
       {base_files.size(), base_offsets.size(), new_files.size(), new_offsets.size(), elements.size()}) {
    if (size != count) refuse("the arrays of pairs", "of one length");
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (!std::has_single_bit(elements[i]) || elements[i] > 8) refuse("elementBytes", "1, 2, 4 or 8");
    if (lengths[i] % elements[i] != 0) refuse("length", "a multiple of elementBytes");
    expect_inside(plan, base_files[i], base_offsets[i], lengths[i]);
    expect_inside(plan, new_files[i], new_offsets[i], lengths[i]);
    plan.pairs.push_back(
        {base_files[i], base_offsets[i], new_files[i], new_offsets[i], lengths[i], elements[i]});
  }
}

}  // namespace

SparsePlan to_sparse_plan(Napi::Value value) {
  const auto job = object(value, "job");
  SparsePlan plan;
  read_files(job, plan);
  read_pairs(job, plan);
  for (const auto& pair : plan.pairs) {
    if (pair.length / pair.element_bytes > SparsePlan::kMostElements) {
      refuse("a pair", "of at most 2^31 - 1 elements");
    }
  }
  const auto limits = property(job, "limit");
  plan.limits = limits.IsNull() ? std::vector<std::uint64_t>(plan.pairs.size(),
                                                             std::numeric_limits<std::uint64_t>::max())
                                : integers(limits, "limit");
  if (plan.limits.size() != plan.pairs.size()) refuse("limit", "one for each pair, or null");
  plan.indices_path = text(property(job, "indicesPath"), "indicesPath");
  plan.values_path = text(property(job, "valuesPath"), "valuesPath");
  plan.memory_bytes = integer(job, "memoryBytes");
  if (plan.memory_bytes < SparsePlan::kLeastMemory) refuse("memoryBytes", "at least 1 MiB");
  return plan;
}

}  // namespace weightcast::binding
