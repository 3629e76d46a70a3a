/* What the hardware and bare NCCL do, without weightcast: the limits and the peer of the GPU bench. One file, libcuda and libnccl opened by path.
 *
 *   bare LIBCUDA LIBNCCL copy BYTES REPEATS            host to device from pinned memory, 16 MiB a copy, bytes/s
 *   bare LIBCUDA LIBNCCL read FILE THREADS             pread into pinned memory, bytes/s
 *   bare LIBCUDA LIBNCCL gather BYTES REPEATS          one device-to-device copy, bytes/s
 *   bare LIBCUDA LIBNCCL broadcast RANK RANKS BYTES REPEATS
 *       rank 0 prints its unique id in hex and reads nothing; the others read it from standard input; each prints bytes/s. In place on the root.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PIECE ((size_t)16 << 20)

typedef struct { char bytes[128]; } unique_id;

static void *cuda, *nccl;

static void fail(const char *what, int code) {
  fprintf(stderr, "bare: %s gave %d\n", what, code);
  exit(1);
}

static void *symbol(void *library, const char *name) {
  void *found = dlsym(library, name);
  if (!found) fail(name, -1);
  return found;
}

#define CU(name, types, ...)                                             \
  do {                                                                   \
    int code_ = ((int(*) types)symbol(cuda, #name))(__VA_ARGS__);        \
    if (code_ != 0) fail(#name, code_);                                  \
  } while (0)
#define NCCL(name, types, ...)                                           \
  do {                                                                   \
    int code_ = ((int(*) types)symbol(nccl, #name))(__VA_ARGS__);        \
    if (code_ != 0) fail(#name, code_);                                  \
  } while (0)

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void report(size_t bytes, int repeats, double seconds) {
  printf("{\"bytesPerSecond\":%.0f,\"seconds\":%.6f}\n", (double)bytes * repeats / seconds, seconds / repeats);
  fflush(stdout);
}

static void *stream;

static void use_device(void) {
  void *context;
  CU(cuInit, (unsigned), 0);
  CU(cuDevicePrimaryCtxRetain, (void **, int), &context, 0);
  CU(cuCtxSetCurrent, (void *), context);
  CU(cuStreamCreate, (void **, unsigned), &stream, 1);
}

static uint64_t device_memory(size_t bytes) {
  uint64_t pointer;
  CU(cuMemAlloc_v2, (uint64_t *, size_t), &pointer, bytes);
  return pointer;
}

static char *pinned_memory(size_t bytes) {
  void *pointer;
  CU(cuMemHostAlloc, (void **, size_t, unsigned), &pointer, bytes, 1);
  memset(pointer, 1, bytes);
  return pointer;
}

static void drain(void) { CU(cuStreamSynchronize, (void *), stream); }

static void copy(size_t bytes, int repeats) {
  char *host = pinned_memory(PIECE);
  uint64_t device = device_memory(bytes);
  double begin = 0;
  for (int round = -1; round < repeats; ++round) {
    if (round == 0) begin = now();
    for (size_t at = 0; at < bytes; at += PIECE) {
      size_t size = bytes - at < PIECE ? bytes - at : PIECE;
      CU(cuMemcpyHtoDAsync_v2, (uint64_t, const void *, size_t, void *), device + at, host, size, stream);
    }
    drain();
  }
  report(bytes, repeats, now() - begin);
}

struct reader {
  int file;
  char *target;
  size_t from, to;
};

static void *read_part(void *argument) {
  struct reader *part = argument;
  for (size_t at = part->from; at < part->to;) {
    size_t size = part->to - at < PIECE ? part->to - at : PIECE;
    ssize_t got = pread(part->file, part->target, size, (off_t)at);
    if (got <= 0) fail("pread", (int)got);
    at += (size_t)got;
  }
  return NULL;
}

static void read_file(const char *path, int threads) {
  int file = open(path, O_RDONLY);
  struct stat status;
  if (file < 0 || fstat(file, &status) != 0 || threads < 1 || threads > 64) fail("open", file);
  size_t bytes = (size_t)status.st_size;
  struct reader parts[64];
  pthread_t running[64];
  for (int i = 0; i < threads; ++i) {
    parts[i] = (struct reader){file, pinned_memory(PIECE), bytes / threads * i,
                               i + 1 == threads ? bytes : bytes / threads * (i + 1)};
  }
  double begin = now();
  for (int i = 0; i < threads; ++i) pthread_create(&running[i], NULL, read_part, &parts[i]);
  for (int i = 0; i < threads; ++i) pthread_join(running[i], NULL);
  report(bytes, 1, now() - begin);
}

static void gather(size_t bytes, int repeats) {
  uint64_t from = device_memory(bytes), to = device_memory(bytes);
  double begin = 0;
  for (int round = -1; round < repeats; ++round) {
    if (round == 0) begin = now();
    CU(cuMemcpyDtoDAsync_v2, (uint64_t, uint64_t, size_t, void *), to, from, bytes, stream);
    drain();
  }
  report(bytes, repeats, now() - begin);
}

static void broadcast(int rank, int ranks, size_t bytes, int repeats) {
  unique_id id;
  if (rank == 0) {
    NCCL(ncclGetUniqueId, (unique_id *), &id);
    for (size_t i = 0; i < sizeof id; ++i) printf("%02x", (unsigned char)id.bytes[i]);
    printf("\n");
    fflush(stdout);
  } else {
    for (size_t i = 0; i < sizeof id; ++i) {
      unsigned byte;
      if (scanf("%2x", &byte) != 1) fail("unique id", 0);
      id.bytes[i] = (char)byte;
    }
  }
  void *communicator;
  NCCL(ncclCommInitRank, (void **, int, unique_id, int), &communicator, ranks, id, rank);
  uint64_t buffer = device_memory(bytes);
  double begin = 0;
  for (int round = -1; round < repeats; ++round) {  /* the first one sets the connections up */
    if (round == 0) begin = now();
    NCCL(ncclBroadcast, (const void *, void *, size_t, int, int, void *, void *), (void *)(uintptr_t)buffer,
         (void *)(uintptr_t)buffer, bytes, 1 /* uint8 */, 0, communicator, stream);
    drain();
  }
  report(bytes, repeats, now() - begin);
  NCCL(ncclCommDestroy, (void *), communicator);
}

int main(int count, char **argument) {
  if (count < 6) {
    fprintf(stderr, "usage: bare LIBCUDA LIBNCCL copy|read|gather|broadcast ...\n");
    return 2;
  }
  cuda = dlopen(argument[1], RTLD_NOW | RTLD_GLOBAL);
  if (!cuda) fail(dlerror(), 0);
  nccl = dlopen(argument[2], RTLD_NOW | RTLD_LOCAL);
  if (!nccl) fail(dlerror(), 0);
  use_device();
  const char *mode = argument[3];
  if (!strcmp(mode, "copy")) copy(strtoull(argument[4], NULL, 10), atoi(argument[5]));
  else if (!strcmp(mode, "read")) read_file(argument[4], atoi(argument[5]));
  else if (!strcmp(mode, "gather")) gather(strtoull(argument[4], NULL, 10), atoi(argument[5]));
  else if (!strcmp(mode, "broadcast") && count == 8)
    broadcast(atoi(argument[4]), atoi(argument[5]), strtoull(argument[6], NULL, 10), atoi(argument[7]));
  else fail(mode, 2);
  return 0;
}
