#include "core/reader.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "core/outcome.h"

namespace weightcast {
namespace {

/// One call reads at most this much, so that a stop is seen soon.
constexpr std::uint64_t kReadBytes = std::uint64_t(4) << 20;
constexpr unsigned kMostThreads = 8;

unsigned thread_count(const Plan& plan, const Layout& layout) {
  const unsigned half = std::max(1u, std::thread::hardware_concurrency() / 2);
  return unsigned(std::min<std::size_t>({half, kMostThreads, plan.staging.pieces, layout.windows.size()}));
}

}  // namespace

Reader::Reader(std::shared_ptr<const Plan> plan, std::shared_ptr<const Layout> layout,
               std::vector<char*> pieces, std::shared_ptr<void> keep, std::shared_ptr<Interrupt> interrupt,
               const std::function<void()>& before_each_file)
    : shared_(std::make_shared<Shared>()) {
  auto& shared = *shared_;
  shared.plan = std::move(plan);
  shared.layout = std::move(layout);
  shared.pieces = std::move(pieces);
  shared.keep = std::move(keep);
  shared.interrupt = std::move(interrupt);
  shared.filled.resize(shared.pieces.size());
  shared.files.reserve(shared.plan->files.size());
  for (std::size_t i = 0; i < shared.plan->files.size(); ++i) {
    before_each_file();
    shared.files.emplace_back(shared.plan->files[i]).expect_size(shared.plan->file_sizes[i]);
  }
  const unsigned threads = thread_count(*shared.plan, *shared.layout);
  for (unsigned i = 0; i < threads; ++i) {
    try {
      crew_.start("wc-reader", [shared = shared_] { shared->work(); });
    } catch (...) {
      if (i == 0) throw;
      break;  // fewer threads will do
    }
  }
}

Reader::~Reader() {
  {
    std::lock_guard lock(shared_->mutex);
    shared_->stop = true;
  }
  shared_->freed.notify_all();
}

bool Reader::filled(std::size_t window) const {
  std::lock_guard lock(shared_->mutex);
  if (shared_->error) throw *shared_->error;
  return shared_->filled[window % shared_->pieces.size()] == window + 1;
}

void Reader::release(std::size_t window) {
  {
    std::lock_guard lock(shared_->mutex);
    shared_->released = window;
  }
  shared_->freed.notify_all();
}

void Reader::expect_unchanged() const {
  for (const auto& file : shared_->files) file.expect_unchanged();
}

void Reader::Shared::work() {
  try {
    std::unique_lock lock(mutex);
    for (;;) {
      freed.wait(
          lock, [this] { return stop || next == layout->windows.size() || next < released + pieces.size(); });
      if (stop || next == layout->windows.size()) return;
      const std::size_t window = next++;
      lock.unlock();
      const auto start = Clock::now();
      fill(window);
      busy_ns += std::uint64_t(milliseconds_since(start) * 1e6);
      lock.lock();
      filled[window % pieces.size()] = window + 1;
      interrupt->bell.ring();
    }
  } catch (...) {
    const auto failure = current_error();
    {
      std::lock_guard lock(mutex);
      if (!error) error = failure;
      stop = true;
    }
    freed.notify_all();
    interrupt->bell.ring();
  }
}

void Reader::Shared::fill(std::size_t window) {
  const Window& target = layout->windows[window];
  char* piece = pieces[window % pieces.size()];
  for (std::size_t i = target.first_read; i < target.first_read + target.reads; ++i) {
    const Read& read = layout->reads[i];
    char* to = piece + read.piece_offset;
    bytes += read.length;
    if (read.kind == RangeKind::host) {
      std::memcpy(to, plan->host_bytes.data() + read.source_offset, read.length);
      continue;
    }
    for (std::uint64_t done = 0; done < read.length && !stop;) {
      const auto take = std::min(kReadBytes, read.length - done);
      files[read.source].read(to + done, take, read.source_offset + done);
      done += take;
    }
  }
}

}  // namespace weightcast
