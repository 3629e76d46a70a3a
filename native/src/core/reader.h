// Threads that fill pinned pieces from files, in the order of the windows, as pieces become free.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/crew.h"
#include "core/error.h"
#include "core/file.h"
#include "core/interrupt.h"
#include "core/plan.h"

namespace weightcast {

class Reader {
 public:
  /// `pieces` are the addresses of the pinned pieces; window w is read into piece w mod pieces. `bell` rings
  /// whenever a window is filled or an error appears; `keep` is what the pieces belong to.
  /// `before_each_file` may throw.
  Reader(std::shared_ptr<const Plan> plan, std::shared_ptr<const Layout> layout, std::vector<char*> pieces,
         std::shared_ptr<void> keep, std::shared_ptr<Interrupt> interrupt,
         const std::function<void()>& before_each_file);
  /// Tells the threads to stop. One whose read hangs goes on holding the plan, the pieces and `keep`.
  ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  /// True when window w is in its piece. @throws what a thread ran into.
  bool filled(std::size_t window) const;
  /// The windows before this one have left their pieces.
  void release(std::size_t window);
  std::uint64_t bytes_read() const { return shared_->bytes; }
  double busy_ms() const { return double(shared_->busy_ns) / 1e6; }
  const Crew& threads() const { return crew_; }
  /// @throws Error(WC_CHECKPOINT_CHANGED)
  void expect_unchanged() const;

 private:
  struct Shared {
    std::shared_ptr<const Plan> plan;
    std::shared_ptr<const Layout> layout;
    std::vector<char*> pieces;
    std::shared_ptr<void> keep;
    std::shared_ptr<Interrupt> interrupt;
    std::vector<File> files;
    std::atomic<std::uint64_t> bytes{0};
    std::atomic<std::uint64_t> busy_ns{0};
    std::atomic<bool> stop{false};
    mutable std::mutex mutex;
    std::condition_variable freed;
    std::size_t next = 0;             // guarded by mutex
    std::size_t released = 0;         // guarded by mutex
    std::vector<std::size_t> filled;  // guarded by mutex: window + 1 that each piece holds
    std::optional<Error> error;       // guarded by mutex

    void work();
    void fill(std::size_t window);
  };

  std::shared_ptr<Shared> shared_;
  Crew crew_;
};

}  // namespace weightcast
