// Calls that never return, and those that return too late.
#include <atomic>
#include <thread>

#include "core/call_watch.h"
#include "core/job_ledger.h"
#include "core_check.h"

namespace weightcast {
namespace {

std::atomic<bool> release{false};
std::atomic<bool> returned{false};

int waits_for_release() {
  while (!release) std::this_thread::yield();
  returned = true;
  return 0;
}

void a_call_that_comes_back_after_it_was_given_up_goes_no_further() {
  auto* watch = new CallWatch;  // its thread never ends
  std::atomic<bool> went_on{false};
  std::thread([watch, &went_on] {
    CallWatch::of_this_thread() = watch;
    LibraryCall<int()> call("cuSlow_v2");
    call.function() = &waits_for_release;
    call();
    went_on = true;
  }).detach();
  while (watch->inside() == 0) std::this_thread::yield();
  CORE_CHECK(watch->describe() == "cuSlow");
  CORE_CHECK(watch->abandon(watch->inside()));
  release = true;
  while (!returned) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CORE_CHECK(!went_on);
}

void a_call_that_has_returned_is_not_given_up() {
  CallWatch watch;
  CallWatch::of_this_thread() = &watch;
  CallWatch::Turn turn = 0;
  {
    const WatchedCall outer("open", "/a/file");
    turn = watch.inside();
    CORE_CHECK(turn != 0 && watch.about_a_file());
    {
      const WatchedCall inner("cuInner");
    }
    CORE_CHECK(watch.inside() == turn && watch.describe() == "open of /a/file");
  }
  CORE_CHECK(watch.inside() == 0);
  CORE_CHECK(!watch.abandon(turn) && !watch.abandon(0));
  {
    const WatchedCall next("cuNext");
    CORE_CHECK(watch.inside() != turn && !watch.about_a_file());
  }
  CallWatch::of_this_thread() = nullptr;
  const WatchedCall unwatched("cuElsewhere");
  CORE_CHECK(watch.inside() == 0);
}

void a_job_is_settled_once() {
  JobLedger ledger;
  int failed = 0;
  const auto first = ledger.add({}, [&](const Error&) { ++failed; });
  const auto second = ledger.add({}, [&](const Error&) { ++failed; });
  CORE_CHECK(ledger.take(first));
  CORE_CHECK(!ledger.take(first));
  const auto rest = ledger.take_all();
  for (const auto& fail : rest) fail(Error(code::kStuck, "stuck"));
  CORE_CHECK(rest.size() == 1 && failed == 1);
  CORE_CHECK(!ledger.take(second));
}

void deadlines_are_seen_when_they_have_passed() {
  JobLedger ledger;
  const auto none = ledger.add({}, [](const Error&) {});
  const auto later = ledger.add({.deadline = Deadline::after(60'000), .ends = true}, [](const Error&) {});
  CORE_CHECK(!ledger.overdue(Clock::now()) && !ledger.ending_due());
  const auto past = ledger.add({.deadline = Deadline::after(-1)}, [](const Error&) {});
  CORE_CHECK(ledger.overdue(Clock::now()) && !ledger.ending_due());
  CORE_CHECK(!ledger.overdue(Clock::now() - std::chrono::seconds(1)));
  CORE_CHECK(ledger.take(past) && !ledger.overdue(Clock::now()));
  ledger.add({.deadline = Deadline::after(-1), .ends = true}, [](const Error&) {});
  CORE_CHECK(ledger.ending_due());
  CORE_CHECK(ledger.take(none) && ledger.take(later));
}

void a_job_whose_turn_has_not_come_is_late_at_its_deadline() {
  JobLedger ledger;
  int late = 0;
  const auto fail = [&](const Error&) { ++late; };
  const auto begun = ledger.add({.deadline = Deadline::after(-1)}, fail);
  const auto waits = ledger.add({.deadline = Deadline::after(-1)}, fail);
  const auto patient = ledger.add({.deadline = Deadline::after(60'000)}, fail);
  const auto endless = ledger.add({}, fail);
  CORE_CHECK(ledger.begin(begun));
  for (const auto& settle : ledger.take_late(Clock::now())) settle(Error(code::kNcclTimeout, "late"));
  CORE_CHECK(late == 1);
  CORE_CHECK(!ledger.begin(waits) && !ledger.take(waits));
  CORE_CHECK(ledger.take(begun));
  CORE_CHECK(ledger.begin(patient) && ledger.begin(endless));
}

void a_watcher_sleeps_until_there_is_a_job_and_ends_when_there_are_no_more() {
  JobLedger ledger;
  std::atomic<int> looks{0};
  std::thread watcher([&] {
    while (ledger.watch(std::chrono::milliseconds(1))) ++looks;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CORE_CHECK(looks == 0);
  const auto id = ledger.add({}, [](const Error&) {});
  while (looks < 3) std::this_thread::yield();
  CORE_CHECK(ledger.take(id));
  ledger.close();
  watcher.join();
}

}  // namespace
}  // namespace weightcast

int main() {
  using namespace weightcast;
  a_call_that_comes_back_after_it_was_given_up_goes_no_further();
  a_call_that_has_returned_is_not_given_up();
  a_job_is_settled_once();
  deadlines_are_seen_when_they_have_passed();
  a_job_whose_turn_has_not_come_is_late_at_its_deadline();
  a_watcher_sleeps_until_there_is_a_job_and_ends_when_there_are_no_more();
}
