/*
 * The yardstick of a publication: the same bytes from the page cache into as many files, by pread and pwrite of
 * 256 KiB (the best size here: larger buffered writes are slower), preallocated, a thread a core, and nothing else.
 *   plain_writer THREADS SYNC SOURCE TARGET [SOURCE TARGET …]
 * Prints seconds of wall time and of CPU time, from the creation of the first target to the end of the last.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CALL_BYTES ((size_t)256 << 10)
#define PART_BYTES ((size_t)8 << 20)

typedef struct {
  int source, target;
  size_t bytes, parts;
  atomic_size_t next, unfinished;
} Copy;

static Copy *copies;
static size_t count;
static int sync_files;
static atomic_size_t threads_started;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static double seconds(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void copy_part(Copy *copy, size_t part, char *buffer) {
  const size_t end = (part + 1) * PART_BYTES < copy->bytes ? (part + 1) * PART_BYTES : copy->bytes;
  for (size_t at = part * PART_BYTES; at < end;) {
    const size_t want = end - at < CALL_BYTES ? end - at : CALL_BYTES;
    const ssize_t got = pread(copy->source, buffer, want, (off_t)at);
    if (got <= 0) die("pread");
    if (pwrite(copy->target, buffer, (size_t)got, (off_t)at) != got) die("pwrite");
    at += (size_t)got;
  }
}

/* Each thread begins with a file of its own, then helps with the others. */
static void *work(void *unused) {
  (void)unused;
  char *buffer = aligned_alloc(4096, CALL_BYTES);
  const size_t first = atomic_fetch_add(&threads_started, 1);
  for (size_t i = 0; i < count; i++) {
    Copy *copy = &copies[(first + i) % count];
    for (size_t part; (part = atomic_fetch_add(&copy->next, 1)) < copy->parts;) {
      copy_part(copy, part, buffer);
      if (atomic_fetch_sub(&copy->unfinished, 1) > 1) continue;
      if (sync_files && fdatasync(copy->target) != 0) die("fdatasync");
      if (close(copy->target) != 0) die("close");
    }
  }
  free(buffer);
  return NULL;
}

int main(int argc, char **argv) {
  if (argc < 5 || argc % 2 == 0) return fprintf(stderr, "usage\n"), 2;
  const int threads = atoi(argv[1]);
  sync_files = atoi(argv[2]);
  count = (size_t)(argc - 3) / 2;
  copies = calloc(count, sizeof *copies);
  pthread_t *ids = calloc((size_t)threads, sizeof *ids);

  const double began = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
  for (size_t i = 0; i < count; i++) {
    struct stat status;
    Copy *copy = &copies[i];
    copy->source = open(argv[3 + 2 * i], O_RDONLY);
    if (copy->source < 0 || fstat(copy->source, &status) != 0) die(argv[3 + 2 * i]);
    copy->bytes = (size_t)status.st_size;
    copy->parts = copy->unfinished = (copy->bytes + PART_BYTES - 1) / PART_BYTES;
    copy->target = open(argv[4 + 2 * i], O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (copy->target < 0) die(argv[4 + 2 * i]);
    (void)!fallocate(copy->target, 0, 0, (off_t)copy->bytes);
  }
  for (int i = 0; i < threads; i++) pthread_create(&ids[i], NULL, work, NULL);
  for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
  printf("%.6f %.6f\n", seconds(CLOCK_MONOTONIC) - began, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
  return 0;
}
