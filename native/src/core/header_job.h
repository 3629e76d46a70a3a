// scan_header on a thread of its own.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/crew.h"
#include "core/header_scan.h"
#include "core/outcome.h"
#include "core/stoppable.h"

namespace weightcast {

class HeaderJob : public Stoppable, public std::enable_shared_from_this<HeaderJob> {
 public:
  using Result = std::optional<HeaderColumns>;

  /// The header's bytes must stay until `done` was called, or the job has stopped.
  static std::shared_ptr<HeaderJob> start(const HeaderText& header, std::vector<HeaderDtype> dtypes,
                                          Done<Result> done) {
    const auto job = std::make_shared<HeaderJob>();
    job->crew_.start("wc-header", [job, header, dtypes = std::move(dtypes), done = std::move(done)] {
      done(capture<Result>([&] { return scan_header(header, dtypes, job->stop_); }));
    });
    return job;
  }

  void request_stop() noexcept override { stop_ = true; }
  bool wait_stopped(const Deadline& deadline) noexcept override { return crew_.wait(deadline); }

 private:
  std::atomic<bool> stop_{false};
  Crew crew_;
};

}  // namespace weightcast
