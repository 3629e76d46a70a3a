#include "binding/delta_plan.h"

#include <bit>
#include <limits>

#include "binding/arguments.h"

namespace weightcast::binding {
namespace {

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

enum class Base { always, optional };

/// The pairs' bytes of the version before.
void read_bases(const Napi::Object& job, DiffPlan& plan, Base base) {
  const auto files = words(property(job, "baseFile"), "baseFile");
  const auto offsets = integers(property(job, "baseOffset"), "baseOffset");
  const auto lengths = integers(property(job, "length"), "length");
  const auto elements = bytes(property(job, "elementBytes"), "elementBytes");
  for (const auto size : {files.size(), offsets.size(), elements.size()}) {
    if (size != lengths.size()) refuse("the arrays of pairs", "of one length");
  }
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    if (!std::has_single_bit(elements[i]) || elements[i] > 8) refuse("elementBytes", "1, 2, 4 or 8");
    if (lengths[i] % elements[i] != 0) refuse("length", "a multiple of elementBytes");
    const DiffPair pair{files[i], offsets[i], 0, 0, lengths[i], elements[i]};
    if (pair.based() || base == Base::always) expect_inside(plan, files[i], offsets[i], lengths[i]);
    plan.pairs.push_back(pair);
  }
}

void read_pairs(const Napi::Object& job, DiffPlan& plan, Base base) {
  read_bases(job, plan, base);
  const auto files = words(property(job, "newFile"), "newFile");
  const auto offsets = integers(property(job, "newOffset"), "newOffset");
  for (const auto size : {files.size(), offsets.size()}) {
    if (size != plan.pairs.size()) refuse("the arrays of pairs", "of one length");
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    DiffPair& pair = plan.pairs[i];
    expect_inside(plan, files[i], offsets[i], pair.length);
    pair.new_file = files[i];
    pair.new_offset = offsets[i];
  }
}

std::vector<ApplyTarget> read_targets(const Napi::Object& job) {
  const auto paths = texts(property(job, "targets"), "targets");
  const auto heads = array(property(job, "targetHeads"), "targetHeads");
  const auto sizes = integers(property(job, "targetSizes"), "targetSizes");
  if (heads.Length() != paths.size() || sizes.size() != paths.size()) refuse("targets", "described one by one");
  std::vector<ApplyTarget> targets;
  for (std::uint32_t i = 0; i < paths.size(); ++i) {
    const auto head = bytes(heads.Get(i), "targetHeads");
    if (head.size() > sizes[i]) refuse("targetSizes", "at least their heads");
    targets.push_back({paths[i], {head.begin(), head.end()}, sizes[i]});
  }
  return targets;
}

}  // namespace

SparsePlan to_sparse_plan(Napi::Value value) {
  const auto job = object(value, "job");
  SparsePlan plan;
  read_files(job, plan);
  read_pairs(job, plan, Base::always);
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

EncodePlan to_encode_plan(Napi::Value value) {
  const auto job = object(value, "job");
  EncodePlan plan;
  read_files(job, plan);
  read_pairs(job, plan, Base::optional);
  plan.delta_path = text(property(job, "deltaPath"), "deltaPath");
  plan.sync = flag(job, "sync");
  return plan;
}

ApplyPlan to_apply_plan(Napi::Value value) {
  const auto job = object(value, "job");
  ApplyPlan plan;
  read_files(job, plan);
  read_bases(job, plan, Base::optional);
  plan.targets = read_targets(job);
  const auto targets = words(property(job, "target"), "target");
  const auto offsets = integers(property(job, "targetOffset"), "targetOffset");
  for (const auto size : {targets.size(), offsets.size()}) {
    if (size != plan.pairs.size()) refuse("the arrays of pairs", "of one length");
  }
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (targets[i] == ApplyPlace::kNowhere) {
      plan.places.push_back({ApplyPlace::kNowhere, 0});
      continue;
    }
    if (targets[i] >= plan.targets.size()) refuse("target", "an index of targets");
    const auto& target = plan.targets[targets[i]];
    if (offsets[i] < target.head.size() || offsets[i] > target.size ||
        plan.pairs[i].length > target.size - offsets[i]) {
      refuse("targetOffset", "behind the head and inside the target");
    }
    plan.places.push_back({targets[i], offsets[i]});
  }
  plan.delta_path = text(property(job, "deltaPath"), "deltaPath");
  plan.sync = flag(job, "sync");
  return plan;
}

}  // namespace weightcast::binding
