#include "nccl/root.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "common/faults.h"
#include "nccl/handshake.h"
#include "nccl/log.h"
#include "nccl/shared_group.h"
#include "nccl/unique_id.h"

namespace emulator::nccl {
namespace {

struct Guest {
  Descriptor connection;
  Hello hello;
};

__attribute__((format(printf, 2, 3))) Verdict verdict(ncclResult_t result, const char* format, ...) {
  Verdict verdict = {};
  verdict.result = result;
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(verdict.text, sizeof verdict.text, format, arguments);
  va_end(arguments);
  return verdict;
}

/** The checks that real ranks do on each other after they met (section 3.1 and 1.1 of the sheet). */
Verdict judge(const std::vector<Guest>& guests) {
  for (const auto& guest : guests) {
    if (guest.hello.version != guests[0].hello.version) {
      return verdict(kInvalidUsage,
                     "Mismatched NCCL version detected : rank %d version %d rank %d version %d",
                     guests[0].hello.rank, guests[0].hello.version, guest.hello.rank, guest.hello.version);
    }
  }
  for (std::size_t i = 0; i < guests.size(); ++i) {
    for (std::size_t j = i + 1; j < guests.size(); ++j) {
      const Hello& a = guests[i].hello;
      const Hello& b = guests[j].hello;
      const bool same =
          a.has_device && b.has_device && a.host == b.host && std::memcmp(a.uuid, b.uuid, 16) == 0;
      if (!same || !(a.refuses_duplicates || b.refuses_duplicates)) continue;
      if (a.version < 23003) {
        return verdict(kInvalidUsage, "Duplicate GPU detected : rank %d and rank %d both on one CUDA device",
                       a.rank, b.rank);
      }
      if (!a.multi_rank_device || !b.multi_rank_device) {
        return verdict(
            kInvalidUsage,
            "Multiple Ranks are using the same GPU/Partition. Set NCCL_MULTI_RANK_GPU_ENABLE=1 to enable.");
      }
    }
  }
  return verdict(kSuccess, "joined");
}

class Root {
 public:
  explicit Root(Descriptor listener) : listener_(std::move(listener)) {}

  void run() {
    while (!complete()) {
      std::vector<pollfd> waiting = {{listener_.get(), POLLIN, 0}};
      for (const auto& guest : guests_) waiting.push_back({guest.connection.get(), POLLRDHUP, 0});
      if (poll(waiting.data(), waiting.size(), -1) < 0) continue;
      for (std::size_t i = 1; i < waiting.size(); ++i) {
        if (waiting[i].revents != 0) left_.push_back(guests_[i - 1].connection.get());
      }
      if (drop_leavers() && guests_.empty() && !faults().leak_init) return;
      if ((waiting[0].revents & POLLIN) != 0) admit();
    }
    finish();
  }

 private:
  bool complete() const {
    return !guests_.empty() && static_cast<int>(guests_.size()) == guests_[0].hello.ranks;
  }

  bool drop_leavers() {
    if (left_.empty()) return false;
    std::erase_if(guests_, [&](const Guest& guest) {
      return std::find(left_.begin(), left_.end(), guest.connection.get()) != left_.end();
    });
    left_.clear();
    // A real group that lost a rank while it met never completes.
    broken_ = true;
    return true;
  }

  void admit() {
    Descriptor connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    Hello hello = {};
    if (!connection.valid()) return;
    // The newcomer sends its hello before anything else; one that doesn't must not hold up the others.
    pollfd ready = {connection.get(), POLLIN, 0};
    if (poll(&ready, 1, 1000) != 1 || !receive_packet(connection.get(), &hello, sizeof hello, 1)) return;
    if (hello.magic != kHelloMagic || hello.ranks < 1 || hello.ranks > kMaxRanks || hello.rank < 0 ||
        hello.rank >= hello.ranks) {
      return;
    }
    for (const auto& guest : guests_) {
      if (guest.hello.ranks != hello.ranks) {
        return refuse(connection,
                      verdict(kInvalidUsage, "Bootstrap Root : mismatch in rank count from procs %d : %d",
                              guest.hello.ranks, hello.ranks));
      }
      if (guest.hello.rank == hello.rank) {
        return refuse(connection,
                      verdict(kInvalidUsage, "Bootstrap Root : rank %d of %d ranks has already checked in",
                              hello.rank, hello.ranks));
      }
    }
    if (broken_)
      return refuse(connection, verdict(kInvalidUsage, "Bootstrap Root : a rank left before all had joined"));
    guests_.push_back({std::move(connection), hello});
  }

  static void refuse(const Descriptor& connection, const Verdict& why) {
    send_packet(connection.get(), &why, sizeof why, {});
  }

  void finish() {
    std::sort(guests_.begin(), guests_.end(),
              [](const Guest& a, const Guest& b) { return a.hello.rank < b.hello.rank; });
    Verdict said = judge(guests_);
    Descriptor memory =
        said.result == kSuccess ? create_shared_group(static_cast<int>(guests_.size())) : Descriptor();
    if (said.result == kSuccess && !memory.valid())
      said = verdict(kSystemError, "no shared memory for the group");
    std::vector<int> descriptors;
    if (said.result == kSuccess) {
      descriptors.push_back(memory.get());
      for (const auto& guest : guests_) descriptors.push_back(guest.connection.get());
    }
    for (const auto& guest : guests_) send_packet(guest.connection.get(), &said, sizeof said, descriptors);
  }

  Descriptor listener_;
  std::vector<Guest> guests_;
  std::vector<int> left_;
  bool broken_ = false;
};

}  // namespace

ncclResult_t start_root(const ncclUniqueId& id) {
  Descriptor listener = listen_at(*socket_name(id));
  if (!listener.valid()) return fail(kSystemError, "Bootstrap : can't listen: %s", std::strerror(errno));
  std::thread([root = Root(std::move(listener))]() mutable {
    // A thread inherits its creator's name. This one stays when nobody ever joins, like the real library's.
    pthread_setname_np(pthread_self(), "nccl-root");
    root.run();
  }).detach();
  return kSuccess;
}

}  // namespace emulator::nccl
