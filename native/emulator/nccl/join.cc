#include "nccl/join.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

#include "common/environment.h"
#include "common/faults.h"
#include "nccl/handshake.h"
#include "nccl/log.h"
#include "nccl/unique_id.h"

namespace emulator::nccl {
namespace {

using std::chrono::milliseconds;

constexpr auto kPollSlice = milliseconds(10);

/** hash(hostname + boot id), or of NCCL_HOSTID, as the real library tells hosts apart. */
std::uint64_t host_hash() {
  std::string text(environment("NCCL_HOSTID"));
  if (text.empty()) {
    char name[256] = {};
    gethostname(name, sizeof name - 1);
    std::ifstream boot("/proc/sys/kernel/random/boot_id");
    std::string boot_id;
    std::getline(boot, boot_id);
    text = name + boot_id;
  }
  return std::hash<std::string>{}(text);
}

Hello hello_of(const Invitation& invitation) {
  Hello hello = {};
  hello.magic = kHelloMagic;
  hello.version = version();
  hello.ranks = invitation.ranks;
  hello.rank = invitation.rank;
  hello.has_device = invitation.device.known;
  hello.refuses_duplicates = environment("WEIGHTCAST_EMULATOR_DUPLICATE_DEVICE") == "refuse";
  hello.multi_rank_device = environment("NCCL_MULTI_RANK_GPU_ENABLE") == "1";
  hello.host = host_hash();
  std::memcpy(hello.uuid, invitation.device.uuid, sizeof hello.uuid);
  return hello;
}

/** The real schedule, attempt times 100 ms, with 4 attempts (1 s) where the real library makes 34 (59.5 s).
 */
Descriptor connect_with_retries(const std::string& name, StopFlag& stop) {
  const auto attempts = environment_number("NCCL_SOCKET_RETRY_CNT", 4);
  const auto pause = environment_number("NCCL_SOCKET_RETRY_SLEEP_MSEC", 100);
  for (long long attempt = 1;; ++attempt) {
    Descriptor connection = connect_to(name);
    if (connection.valid() || attempt > attempts) return connection;
    if (!stop.sleep(milliseconds(attempt * pause))) return Descriptor();
  }
}

ncclResult_t aborted() { return fail(kInternalError, "communicator was aborted during init"); }

}  // namespace

ncclResult_t join(const Invitation& invitation, StopFlag& stop, std::unique_ptr<Transport>& transport) {
  const auto name = socket_name(invitation.id);
  if (!name)
    return fail(kInvalidArgument,
                "the unique id was not made by the emulated libnccl: use one library for all ranks");
  if (faults().init_delay_ms != 0 && !stop.sleep(milliseconds(faults().init_delay_ms))) return aborted();
  if (faults().missing_peer) {
    stop.wait();
    return aborted();
  }

  Descriptor connection = connect_with_retries(*name, stop);
  if (!connection.valid()) {
    if (stop.is_set()) return aborted();
    return fail(kRemoteError, "socket connect to the bootstrap root failed: %s", std::strerror(errno));
  }
  const Hello hello = hello_of(invitation);
  if (!send_packet(connection.get(), &hello, sizeof hello, {})) {
    return fail(kRemoteError, "the bootstrap root closed the connection");
  }
  // Only now: the root that sees its last guest leave ends, one that nobody ever called waits for good.
  if (stop.is_set() && !faults().leak_init) return aborted();
  for (pollfd waiting = {connection.get(), POLLIN, 0}; poll(&waiting, 1, kPollSlice.count()) <= 0;) {
    if (!stop.is_set()) continue;
    if (faults().leak_init) connection.leak();
    return aborted();
  }
  Verdict verdict = {};
  auto received = receive_packet(connection.get(), &verdict, sizeof verdict,
                                 static_cast<std::size_t>(invitation.ranks) + 1);
  if (!received) {
    // Nobody tells a real rank that its root died after it said hello: it waits for a call that never comes.
    warn("the bootstrap root is gone; waiting for an abort");
    stop.wait();
    return aborted();
  }
  verdict.text[sizeof verdict.text - 1] = '\0';
  if (verdict.result != kSuccess) return fail(verdict.result, "%s", verdict.text);
  if (received->size() != static_cast<std::size_t>(invitation.ranks) + 1) {
    return fail(kSystemError, "too few file descriptors arrived: is the limit on open files too low?");
  }
  Descriptor memory = std::move(received->front());
  received->erase(received->begin());
  transport = std::make_unique<Transport>(invitation.rank, invitation.ranks, memory, std::move(*received),
                                          std::move(connection), stop);
  if (!transport->usable())
    return fail(kSystemError, "can't map the group's memory: %s", std::strerror(errno));
  inform("rank %d of %d joined (weightcast emulation, version %d)", invitation.rank, invitation.ranks,
         version());
  return kSuccess;
}

}  // namespace emulator::nccl
