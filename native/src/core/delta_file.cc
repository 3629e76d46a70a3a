#include "core/delta_file.h"

#include <bit>
#include <cstring>

#include "core/error.h"

static_assert(std::endian::native == std::endian::little, "the file is little-endian");

namespace weightcast {
namespace {

constexpr char kMagic[8] = {'W', 'C', 'D', 'E', 'L', 'T', 'A', '\n'};
constexpr std::uint32_t kVersion = 1;

struct Header {
  char magic[8];
  std::uint32_t version;
  std::uint32_t codec;
  std::uint32_t block_bytes;
  std::uint32_t zero;
  std::uint64_t entries;
};
static_assert(sizeof(Header) == 32);

struct IndexEntry {
  std::uint64_t length;
  std::uint32_t element_bytes;
  std::uint32_t based;
};
static_assert(sizeof(IndexEntry) == 16 && sizeof(DeltaBlock) == 8);

struct Footer {
  std::uint64_t index_offset;
  std::uint64_t index_bytes;
  std::uint64_t file_bytes;
  char magic[8];
};
static_assert(sizeof(Footer) == 32);

std::uint64_t index_bytes(std::span<const DeltaEntry> entries) {
  std::uint64_t bytes = 0;
  for (const auto& entry : entries) bytes += sizeof(IndexEntry) + delta_blocks(entry.length) * sizeof(DeltaBlock);
  return bytes;
}

}  // namespace

DeltaWriter::DeltaWriter(const std::string& path, DeltaCodec codec, std::vector<DeltaEntry> entries)
    : file_(path), entries_(std::move(entries)) {
  Header header{{}, kVersion, std::uint32_t(codec), kDeltaBlockBytes, 0, entries_.size()};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  put(&header, sizeof header);
}

void DeltaWriter::put(const void* bytes, std::size_t length) {
  file_.write(bytes, length, end_);
  digest_.update(bytes, length);
  end_ += length;
}

void DeltaWriter::add(const DeltaBlock& block, std::span<const std::uint8_t> bytes) {
  blocks_.push_back(block);
  if (!bytes.empty()) put(bytes.data(), bytes.size());
}

DeltaWriter::Written DeltaWriter::finish(bool sync) {
  const std::uint64_t index = end_;
  std::vector<std::uint8_t> bytes(index_bytes(entries_));
  std::size_t at = 0;
  const auto append = [&](const void* from, std::size_t length) {
    std::memcpy(bytes.data() + at, from, length);
    at += length;
  };
  std::size_t block = 0;
  for (const auto& entry : entries_) {
    const IndexEntry line{entry.length, entry.element_bytes, entry.based ? 1u : 0u};
    append(&line, sizeof line);
    const auto count = delta_blocks(entry.length);
    if (count > 0) append(&blocks_[block], count * sizeof(DeltaBlock));
    block += count;
  }
  put(bytes.data(), bytes.size());
  Footer footer{index, bytes.size(), end_ + sizeof(Footer), {}};
  std::memcpy(footer.magic, kMagic, sizeof kMagic);
  put(&footer, sizeof footer);
  if (sync) file_.sync();
  file_.keep();
  return {end_, digest_.finish()};
}

void DeltaReader::refuse(const std::string& what) const {
  throw Error(code::kDeltaInvalid, file_.path() + " is no valid delta: " + what, {{"path", file_.path()}});
}

DeltaReader::DeltaReader(const std::string& path, std::span<const DeltaEntry> expected) : file_(path) {
  Header header;
  Footer footer;
  if (file_.size() < sizeof header + sizeof footer) refuse("too short");
  file_.read(&header, sizeof header, 0);
  file_.read(&footer, sizeof footer, file_.size() - sizeof footer);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) refuse("it begins with other bytes");
  if (header.version != kVersion) refuse("format version " + std::to_string(header.version) + ", not 1");
  if (header.codec > std::uint32_t(DeltaCodec::zstd)) refuse("an unknown codec");
  if (header.block_bytes != kDeltaBlockBytes || header.zero != 0) refuse("another block size");
  if (header.entries != expected.size()) refuse("another number of tensors");
  if (std::memcmp(footer.magic, kMagic, sizeof kMagic) != 0 || footer.file_bytes != file_.size()) {
    refuse("it is cut off");
  }
  codec_ = DeltaCodec(header.codec);
  // What is expected says how long the index is, so that no number of the file sizes any memory.
  const auto length = index_bytes(expected);
  const auto room = file_.size() - sizeof header - sizeof footer;
  if (footer.index_bytes != length || length > room || footer.index_offset != sizeof header + room - length) {
    refuse("its index is of other tensors");
  }
  read_index(footer.index_offset, length, expected);
}

void DeltaReader::read_index(std::uint64_t offset, std::uint64_t length, std::span<const DeltaEntry> expected) {
  std::vector<std::uint8_t> bytes(length);
  file_.read(bytes.data(), length, offset);
  const std::uint8_t* at = bytes.data();
  std::uint64_t next = sizeof(Header);
  for (const auto& entry : expected) {
    IndexEntry line;
    std::memcpy(&line, at, sizeof line);
    at += sizeof line;
    if (line.length != entry.length || line.element_bytes != entry.element_bytes ||
        line.based != (entry.based ? 1u : 0u)) {
      refuse("its index is of other tensors");
    }
    first_block_.push_back(places_.size());
    for (std::uint64_t done = 0; done < entry.length; done += kDeltaBlockBytes) {
      DeltaBlock block;
      std::memcpy(&block, at, sizeof block);
      at += sizeof block;
      const auto whole = std::min<std::uint64_t>(kDeltaBlockBytes, entry.length - done);
      const bool raw = block.changes == DeltaBlock::kRaw;
      if (raw ? block.stored != whole
              : !entry.based || (block.changes == 0) != (block.stored == 0) || block.stored >= whole) {
        refuse("a block of impossible size");
      }
      places_.push_back({block, next});
      next += block.stored;
    }
  }
  if (next != offset) refuse("its blocks do not fill it");
}

DeltaReader::Place DeltaReader::place(std::size_t entry, std::uint64_t block) const {
  return places_[first_block_[entry] + block];
}

}  // namespace weightcast
