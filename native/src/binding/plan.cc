#include "binding/plan.h"

#include <numeric>

#include "binding/arguments.h"
#include "binding/device_buffer.h"

namespace weightcast::binding {
namespace {

constexpr std::uint64_t kMostSlots = 64;
constexpr std::uint64_t kMostPieces = 1024;
constexpr std::uint64_t kMostThreads = 1024;
constexpr std::uint64_t kMostRank = 1u << 20;

std::vector<Range> to_ranges(const Napi::Object& plan) {
  const auto kinds = bytes(property(plan, "rangeKind"), "rangeKind");
  const auto sources = words(property(plan, "rangeSource"), "rangeSource");
  const auto offsets = integers(property(plan, "rangeOffset"), "rangeOffset");
  const auto lengths = integers(property(plan, "rangeLength"), "rangeLength");
  if (sources.size() != kinds.size() || offsets.size() != kinds.size() || lengths.size() != kinds.size()) {
    refuse("the range arrays", "of one length");
  }
  std::vector<Range> ranges;
  ranges.reserve(kinds.size());
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i] > std::uint8_t(RangeKind::host)) refuse("rangeKind", "0, 1 or 2");
    ranges.push_back({RangeKind(kinds[i]), sources[i], offsets[i], lengths[i]});
  }
  return ranges;
}

std::vector<BufferId> to_buffers(Napi::Value value, const std::shared_ptr<Communicator>& communicator) {
  const auto list = array(value, "deviceBuffers");
  std::vector<BufferId> buffers;
  for (std::uint32_t i = 0; i < list.Length(); ++i) {
    const auto& buffer = unwrap<DeviceBuffer>(list.Get(i));
    if (buffer.communicator() != communicator) refuse("deviceBuffers", "buffers of this communicator");
    buffers.push_back(buffer.id());
  }
  return buffers;
}

std::vector<DeviceSource> to_devices(Napi::Value value) {
  const auto list = array(value, "deviceBuffers");
  std::vector<DeviceSource> devices;
  for (std::uint32_t i = 0; i < list.Length(); ++i) {
    const auto& buffer = unwrap<DeviceBuffer>(list.Get(i));
    devices.push_back({buffer.communicator(), buffer.id(), buffer.length()});
  }
  return devices;
}

template <class Element>
std::vector<Element> copy(std::span<const Element> values) {
  return {values.begin(), values.end()};
}

}  // namespace

Plan to_plan(Napi::Value value, const std::shared_ptr<Communicator>& communicator) {
  const auto plan = object(value, "plan");
  return {
      .files = texts(property(plan, "files"), "files"),
      .file_sizes = integers(property(plan, "fileSizes"), "fileSizes"),
      .ranges = to_ranges(plan),
      .frame_ranges = copy(words(property(plan, "frameRanges"), "frameRanges")),
      .device_buffers = to_buffers(property(plan, "deviceBuffers"), communicator),
      .host_bytes = copy(bytes(property(plan, "hostBytes"), "hostBytes")),
      .staging = {.slots = std::uint32_t(integer(plan, "slots", kMostSlots)),
                  .slot_bytes = integer(plan, "slotBytes"),
                  .pieces = std::uint32_t(integer(plan, "pieces", kMostPieces)),
                  .piece_bytes = integer(plan, "pieceBytes")},
      .root = int(integer(plan, "root", kMostRank)),
  };
}

HashPlan to_hash_plan(Napi::Value value) {
  const auto job = object(value, "job");
  HashPlan plan;
  plan.files = texts(property(job, "files"), "files");
  const auto files = words(property(job, "segmentFile"), "segmentFile");
  const auto offsets = integers(property(job, "segmentOffset"), "segmentOffset");
  const auto block_bytes = integers(property(job, "segmentBlockBytes"), "segmentBlockBytes");
  const auto strides = integers(property(job, "segmentStrideBytes"), "segmentStrideBytes");
  const auto blocks = integers(property(job, "segmentBlocks"), "segmentBlocks");
  for (const auto size : {offsets.size(), block_bytes.size(), strides.size(), blocks.size()}) {
    if (size != files.size()) refuse("the segment arrays", "of one length");
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (files[i] >= plan.files.size()) refuse("segmentFile", "an index of files");
    if (blocks[i] > 1 && strides[i] < block_bytes[i])
      refuse("segmentStrideBytes", "at least segmentBlockBytes");
    const auto extent =
        static_cast<unsigned __int128>(blocks[i]) * std::max(strides[i], block_bytes[i]) + offsets[i];
    if (extent > (static_cast<unsigned __int128>(1) << 62)) refuse("a segment", "inside its file");
    plan.segments.push_back({files[i], offsets[i], block_bytes[i], strides[i], blocks[i]});
  }
  plan.digest_segments = copy(words(property(job, "digestSegments"), "digestSegments"));
  const auto named =
      std::accumulate(plan.digest_segments.begin(), plan.digest_segments.end(), std::uint64_t{0});
  if (named != plan.segments.size()) refuse("digestSegments", "the numbers of all segments");
  plan.threads = unsigned(integer(job, "threads", kMostThreads));
  return plan;
}

WritePlan to_write_plan(Napi::Value value) {
  const auto job = object(value, "job");
  return {
      .files = texts(property(job, "files"), "files"),
      .file_sizes = integers(property(job, "fileSizes"), "fileSizes"),
      .ranges = to_ranges(job),
      .devices = to_devices(property(job, "deviceBuffers")),
      .host_bytes = copy(bytes(property(job, "hostBytes"), "hostBytes")),
      .targets = texts(property(job, "targets"), "targets"),
      .target_ranges = copy(words(property(job, "targetRanges"), "targetRanges")),
      .digest = flag(job, "digest"),
      .sync = flag(job, "sync"),
      .threads = unsigned(integer(job, "threads", kMostThreads)),
  };
}

}  // namespace weightcast::binding
