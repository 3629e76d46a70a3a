#include "core/delta_encode.h"

#include "core/delta_block.h"

namespace weightcast {

DeltaEncode::DeltaEncode(EncodePlan plan, Progress progress, Done<Encoded> done)
    : FileJob("wc-delta", plan.threads, std::move(progress), std::move(done)), plan_(std::move(plan)) {
  encoded_.stored.resize(plan_.pairs.size());
  encoded_.changed.resize(plan_.pairs.size());
}

std::shared_ptr<DeltaEncode> DeltaEncode::begin(EncodePlan plan, Progress progress, Done<Encoded> done) {
  auto job = std::shared_ptr<DeltaEncode>(
      new DeltaEncode(std::move(plan), std::move(progress), std::move(done)));
  job->start();
  return job;
}

unsigned DeltaEncode::open() {
  files_ = open_files(plan_.files, plan_.file_sizes);
  std::vector<std::uint64_t> lengths;
  std::vector<DeltaEntry> entries;
  std::uint64_t blocks = 0;
  for (const auto& pair : plan_.pairs) {
    lengths.push_back(pair.length);
    entries.push_back({pair.length, pair.element_bytes, pair.based()});
    blocks += delta_blocks(pair.length);
  }
  writer_.emplace(plan_.delta_path, plan_.zstd == nullptr ? DeltaCodec::none : DeltaCodec::zstd,
                  std::move(entries));
  queue_.emplace(std::move(lengths), kDeltaBlockBytes);
  return unsigned(std::clamp<std::uint64_t>(blocks, 1, kMostThreads));
}

void DeltaEncode::work() {
  std::vector<std::uint8_t> base(kDeltaBlockBytes), now(kDeltaBlockBytes);
  DeltaBlockEncoder encoder(plan_.zstd.get());
  while (!stopping()) {
    const auto piece = queue_->take();
    if (!piece) return;
    const DiffPair& pair = plan_.pairs[piece->item];
    files_[pair.new_file].read(now.data(), piece->length, pair.new_offset + piece->offset);
    DeltaBlock block{std::uint32_t(piece->length), DeltaBlock::kRaw};
    std::span<const std::uint8_t> bytes(now.data(), piece->length);
    std::uint64_t changed = piece->length / pair.element_bytes;
    if (pair.based()) {
      files_[pair.base_file].read(base.data(), piece->length, pair.base_offset + piece->offset);
      changed = encoder.encode(base.data(), now.data(), piece->length, pair.element_bytes);
      if (encoder.bytes().size() < piece->length) {
        bytes = encoder.bytes();
        block = {std::uint32_t(bytes.size()), std::uint32_t(changed)};
      }
    }
    if (!queue_->wait_turn(*piece, [this] { return stopping(); })) return;
    writer_->add(block, bytes);
    encoded_.stored[piece->item] += bytes.size();
    encoded_.changed[piece->item] += changed;
    queue_->pass(*piece);
    advance(piece->length);
  }
}

Encoded DeltaEncode::finish() {
  for (const auto& file : files_) file.expect_unchanged();
  encoded_.file = writer_->finish(plan_.sync);
  return std::move(encoded_);
}

void DeltaEncode::release() noexcept {
  files_.clear();
  writer_.reset();
}

}  // namespace weightcast
