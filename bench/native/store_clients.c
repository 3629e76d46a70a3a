// store_clients PORT CLIENTS: so many TCPStore clients at once, each as a vLLM worker of torch 2.5 or later (contracts: TCPStore 2, 5 and 8):
// VALIDATE and PING, ADD init/ 1, WAIT and GET of the pickled unique id. Prints the milliseconds from the first connect to the last id.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define KEY "/broadcast_from/0/0"
enum { PING, ADD, WAIT, LENGTH, VALUE, STAGES };

struct client {
  int fd;
  int stage;
  size_t got;
  size_t expected;
  unsigned char reply[512];
};

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static size_t put_key(unsigned char *at, const char *key) {
  const uint64_t length = strlen(key);
  memcpy(at, &length, 8);
  memcpy(at + 8, key, length);
  return 8 + length;
}

// A request fits the socket's buffer, and the reply to the one before has been read: so it is sent whole.
static void request(struct client *client) {
  static const uint64_t one = 1;
  unsigned char bytes[64];
  size_t length = 0;
  switch (client->stage) {
    case PING:
      memcpy(bytes, "\x00\xce\xf7\x85\x3c\x0d\x01\x02\x03\x04", length = 10);
      client->expected = 4;
      break;
    case ADD:
      bytes[length++] = 4;
      length += put_key(bytes + length, "init/");
      memcpy(bytes + length, &one, 8);
      length += 8;
      client->expected = 8;
      break;
    case WAIT:
      bytes[length++] = 6;
      memcpy(bytes + length, &one, 8);
      length += 8;
      length += put_key(bytes + length, KEY);
      client->expected = 1;
      break;
    case LENGTH:
      bytes[length++] = 3;
      length += put_key(bytes + length, KEY);
      client->expected = 8;
      break;
    case VALUE: {
      uint64_t value;
      memcpy(&value, client->reply, 8);
      if (value == 0 || value > sizeof client->reply) {
        fprintf(stderr, "an id of %lu bytes\n", (unsigned long)value);
        exit(1);
      }
      client->expected = value;
      break;
    }
  }
  client->got = 0;
  if (length > 0 && send(client->fd, bytes, length, MSG_NOSIGNAL) != (ssize_t)length) fail("send");
}

// True when the last reply is there.
static int receive(struct client *client) {
  for (;;) {
    const ssize_t bytes =
        recv(client->fd, client->reply + client->got, client->expected - client->got, MSG_DONTWAIT);
    if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (bytes < 0) fail("recv");
    if (bytes == 0) {
      fprintf(stderr, "the store closed a connection in stage %d\n", client->stage);
      exit(1);
    }
    client->got += (size_t)bytes;
    if (client->got < client->expected) continue;
    if (++client->stage == STAGES) return 1;
    request(client);
  }
}

int main(int count_of_arguments, char **arguments) {
  if (count_of_arguments != 3) return 2;
  const int clients = atoi(arguments[2]);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  struct client *all = calloc((size_t)clients, sizeof *all);
  const int poll = epoll_create1(0);
  if (all == NULL || poll < 0) fail("setup");
  struct sockaddr_in store = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[1]))};
  store.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

  const double began = now_ms();
  for (int i = 0; i < clients; i++) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const int on = 1;
    if (fd < 0) fail("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&store, sizeof store) != 0 && errno != EINPROGRESS) fail("connect");
    all[i].fd = fd;
    struct epoll_event event = {.events = EPOLLOUT, .data.u32 = (uint32_t)i};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll");
  }
  for (int done = 0; done < clients;) {
    struct epoll_event events[256];
    const int ready = epoll_wait(poll, events, 256, 60000);
    if (ready == 0) {
      fprintf(stderr, "%d of %d clients have the id after a minute of silence\n", done, clients);
      return 1;
    }
    for (int i = 0; i < ready; i++) {
      struct client *client = &all[events[i].data.u32];
      if (events[i].events & EPOLLOUT) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = events[i].data.u32};
        epoll_ctl(poll, EPOLL_CTL_MOD, client->fd, &event);
        request(client);
      } else if (receive(client)) {
        epoll_ctl(poll, EPOLL_CTL_DEL, client->fd, NULL);
        done++;
      }
    }
  }
  printf("%.3f\n", now_ms() - began);
  return 0;
}
