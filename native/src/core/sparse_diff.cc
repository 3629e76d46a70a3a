#include "core/sparse_diff.h"

#include <algorithm>
#include <bit>

#include "core/element_changes.h"

static_assert(std::endian::native == std::endian::little, "the spool is little-endian");

namespace weightcast {
namespace {

/// Two of them, and what comes of them, fit into a core's second-level cache.
constexpr std::size_t kMostPiece = std::size_t(256) << 10;
constexpr std::size_t kLeastPiece = std::size_t(32) << 10;
/// Memory of a thread, in pieces: two that are compared, the values, four bytes of index for each byte.
constexpr std::size_t kPiecesAThread = 7;

}  // namespace

struct SparseDiff::Workspace {
  explicit Workspace(std::size_t piece_bytes) : base(piece_bytes), now(piece_bytes) {}

  std::vector<std::uint8_t> base, now, values;
  std::vector<std::uint32_t> indices;
  std::size_t changed = 0;
};

SparseDiff::SparseDiff(SparsePlan plan, Progress progress, Done<Result> done)
    : FileJob("wc-diff", plan.threads, std::move(progress), std::move(done)),
      plan_(std::move(plan)),
      pairs_(plan_.pairs.size()) {}

std::shared_ptr<SparseDiff> SparseDiff::begin(SparsePlan plan, Progress progress, Done<Result> done) {
  auto job = std::shared_ptr<SparseDiff>(
      new SparseDiff(std::move(plan), std::move(progress), std::move(done)));
  job->start();
  return job;
}

unsigned SparseDiff::open() {
  files_ = open_files(plan_.files, plan_.file_sizes);
  indices_.emplace(plan_.indices_path);
  values_.emplace(plan_.values_path);
  const auto cores = std::max(1u, std::thread::hardware_concurrency());
  const auto threads = std::min<std::uint64_t>(plan_.threads != 0 ? plan_.threads : cores,
                                               plan_.memory_bytes / (kPiecesAThread * kLeastPiece));
  piece_bytes_ = std::min<std::uint64_t>(kMostPiece, plan_.memory_bytes / (kPiecesAThread * threads)) /
                 kLeastPiece * kLeastPiece;
  std::vector<std::uint64_t> lengths;
  for (const auto& pair : plan_.pairs) lengths.push_back(pair.length);
  queue_.emplace(std::move(lengths), piece_bytes_);
  return unsigned(threads);
}

void SparseDiff::work() {
  Workspace workspace(piece_bytes_);
  while (!stopping()) {
    const auto piece = queue_->take();
    if (!piece) return;
    compare(*piece, workspace);
    if (!queue_->wait_turn(*piece, [this] { return stopping(); })) return;
    append(*piece, workspace);
    queue_->pass(*piece);
    advance(piece->length);
  }
}

void SparseDiff::compare(const Piece& piece, Workspace& workspace) const {
  const DiffPair& pair = plan_.pairs[piece.item];
  files_[pair.base_file].read(workspace.base.data(), piece.length, pair.base_offset + piece.offset);
  files_[pair.new_file].read(workspace.now.data(), piece.length, pair.new_offset + piece.offset);
  const std::size_t elements = piece.length / pair.element_bytes;
  if (workspace.indices.size() < elements) {
    workspace.indices.resize(elements);
    workspace.values.resize(piece_bytes_);
  }
  const auto count = ElementChanges::find(workspace.base.data(), workspace.now.data(), piece.length,
                                          pair.element_bytes, workspace.indices.data());
  workspace.changed = count;
  gather_elements(workspace.now.data(), pair.element_bytes, workspace.indices.data(), count,
                  workspace.values.data());
  const auto first = std::uint32_t(piece.offset / pair.element_bytes);
  for (std::size_t i = 0; i < count; ++i) workspace.indices[i] += first;
}

void SparseDiff::append(const Piece& piece, const Workspace& workspace) {
  SparsePair& pair = pairs_[piece.item];
  if (piece.offset == 0) {
    pair.indices_offset = indices_end_;
    pair.values_offset = values_end_;
  }
  if (pair.dense || workspace.changed == 0) return;
  pair.changed += workspace.changed;
  if (pair.changed > plan_.limits[piece.item]) {
    // The next pair is written over what there is of this one.
    pair.dense = true;
    indices_end_ = pair.indices_offset;
    values_end_ = pair.values_offset;
    advance(queue_->skip(piece.item));
    return;
  }
  const std::size_t indices = workspace.changed * sizeof(std::uint32_t);
  const std::size_t values = workspace.changed * plan_.pairs[piece.item].element_bytes;
  indices_->write(workspace.indices.data(), indices, indices_end_);
  values_->write(workspace.values.data(), values, values_end_);
  indices_end_ += indices;
  values_end_ += values;
}

SparseDiff::Result SparseDiff::finish() {
  for (const auto& file : files_) file.expect_unchanged();
  indices_->truncate(indices_end_);
  values_->truncate(values_end_);
  indices_->keep();
  try {
    values_->keep();
  } catch (...) {
    FreshFile::remove(plan_.indices_path);
    throw;
  }
  return std::move(pairs_);
}

void SparseDiff::release() noexcept {
  files_.clear();
  indices_.reset();
  values_.reset();
}

}  // namespace weightcast
