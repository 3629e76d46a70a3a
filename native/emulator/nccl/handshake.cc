#include "nccl/handshake.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

namespace emulator::nccl {
namespace {

struct Address {
  sockaddr_un storage = {};
  socklen_t bytes = 0;
};

Address abstract_address(const std::string& name) {
  Address address;
  address.storage.sun_family = AF_UNIX;
  std::memcpy(address.storage.sun_path + 1, name.data(), name.size());
  address.bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return address;
}

Descriptor new_socket() { return Descriptor(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)); }

}  // namespace

bool send_packet(int socket, const void* data, std::size_t bytes, const std::vector<int>& descriptors) {
  iovec part = {const_cast<void*>(data), bytes};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  const std::size_t payload = descriptors.size() * sizeof(int);
  std::vector<char> control(descriptors.empty() ? 0 : CMSG_SPACE(payload));
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(payload);
    std::memcpy(CMSG_DATA(head), descriptors.data(), payload);
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes);
}

std::optional<std::vector<Descriptor>> receive_packet(int socket, void* data, std::size_t bytes,
                                                      std::size_t max_descriptors) {
  iovec part = {data, bytes};
  std::vector<char> control(CMSG_SPACE(max_descriptors * sizeof(int)));
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = 0;
  do {
    got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  std::vector<Descriptor> descriptors;
  if (got < 0) return std::nullopt;
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(head) + i * sizeof(int), sizeof number);
      descriptors.emplace_back(number);
    }
  }
  const bool whole =
      static_cast<std::size_t>(got) == bytes && (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
  return whole ? std::optional(std::move(descriptors)) : std::nullopt;
}

Descriptor listen_at(const std::string& name) {
  const auto address = abstract_address(name);
  Descriptor listener = new_socket();
  if (!listener.valid()) return listener;
  const bool ok =
      bind(listener.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.bytes) == 0 &&
      listen(listener.get(), 256) == 0;
  return ok ? std::move(listener) : Descriptor();
}

Descriptor connect_to(const std::string& name) {
  const auto address = abstract_address(name);
  Descriptor connection = new_socket();
  if (!connection.valid()) return connection;
  const bool ok =
      connect(connection.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.bytes) == 0;
  return ok ? std::move(connection) : Descriptor();
}

}  // namespace emulator::nccl
