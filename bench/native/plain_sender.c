/*
 * The yardstick: reads and sends the same bytes the same way as weightcast's executor, and does nothing else.
 * One thread reads ranges into pinned pieces; the main thread copies each to a device slot and broadcasts a
 * slot when it is full. Reads, copies and broadcasts overlap; nothing is checked, nothing can be aborted.
 *   plain_sender LIBCUDA LIBNCCL WORLD_SIZE < PLAN
 * PLAN: pieces piece_bytes files path… frames { ranges { file offset length }… }…, separated by white space.
 * Prints the unique id, and at the end a line of JSON: what it took from the first read to the last byte sent.
 */
#define _GNU_SOURCE
#include "api.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

typedef struct {
  int file;
  size_t offset, length;
} Range;
typedef struct {
  size_t ranges, bytes;
} Frame;

static int pieces;
static size_t piece_bytes;
static char **piece;
static size_t *filled_bytes;
static sem_t filled, empty;
static int *files;
static Range *ranges;
static Frame *frames;
static size_t frame_count;

static void read_plan(void) {
  pieces = (int)next_number(stdin);
  piece_bytes = next_number(stdin);
  const size_t file_count = next_number(stdin);
  files = calloc(file_count, sizeof *files);
  for (size_t i = 0; i < file_count; i++) {
    char path[4096];
    if (scanf("%4095s", path) != 1) die("reading a path of the plan", -1);
    files[i] = open(path, O_RDONLY);
    if (files[i] < 0) die(path, -1);
    posix_fadvise(files[i], 0, 0, POSIX_FADV_SEQUENTIAL);
  }
  frame_count = next_number(stdin);
  frames = calloc(frame_count, sizeof *frames);
  size_t used = 0, room = 1024;
  ranges = calloc(room, sizeof *ranges);
  for (size_t f = 0; f < frame_count; f++) {
    frames[f].ranges = next_number(stdin);
    for (size_t r = 0; r < frames[f].ranges; r++, used++) {
      if (used == room) ranges = realloc(ranges, (room *= 2) * sizeof *ranges);
      ranges[used].file = (int)next_number(stdin);
      ranges[used].offset = next_number(stdin);
      ranges[used].length = next_number(stdin);
      frames[f].bytes += ranges[used].length;
    }
  }
}

static void *read_files(void *unused) {
  (void)unused;
  int at = 0;
  const Range *range = ranges;
  for (size_t f = 0; f < frame_count; f++) {
    size_t in_range = 0, left = frames[f].bytes;
    while (left > 0) {
      sem_wait(&empty);
      const size_t wanted = left < piece_bytes ? left : piece_bytes;
      for (size_t have = 0; have < wanted;) {
        size_t take = range->length - in_range;
        if (take > wanted - have) take = wanted - have;
        const ssize_t got =
            pread(files[range->file], piece[at] + have, take, (off_t)(range->offset + in_range));
        if (got <= 0) die("pread", (int)got);
        have += (size_t)got;
        in_range += (size_t)got;
        if (in_range == range->length) {
          range++;
          in_range = 0;
        }
      }
      filled_bytes[at] = wanted;
      left -= wanted;
      at = (at + 1) % pieces;
      sem_post(&filled);
    }
  }
  return NULL;
}

static double now_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_seconds(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
         (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Peak resident memory: "VmHWM:   123 kB". */
static unsigned long peak_kilobytes(void) {
  char line[256];
  unsigned long kilobytes = 0;
  FILE *status = fopen("/proc/self/status", "r");
  while (status != NULL && fgets(line, sizeof line, status) != NULL) {
    if (sscanf(line, "VmHWM: %lu", &kilobytes) == 1) break;
  }
  if (status != NULL) fclose(status);
  return kilobytes;
}

int main(int argc, char **argv) {
  if (argc != 4) die("usage", argc);
  open_libraries(argv[1], argv[2]);
  read_plan();
  size_t largest = 1;
  for (size_t f = 0; f < frame_count; f++) {
    if (frames[f].bytes > largest) largest = frames[f].bytes;
  }
  UniqueId id;
  CHECK(api.ncclGetUniqueId(&id));
  for (int i = 0; i < 128; i++) printf("%02hhx", (unsigned char)id.bytes[i]);
  printf("\n");
  fflush(stdout);
  void *collectives = make_stream();
  void *comm = join_group(id, atoi(argv[3]), 0, collectives);

  // Memory that is written here is committed: emulated memory else is when it is first used.
  piece = calloc((size_t)pieces, sizeof *piece);
  filled_bytes = calloc((size_t)pieces, sizeof *filled_bytes);
  for (int i = 0; i < pieces; i++) {
    CHECK(api.cuMemHostAlloc((void **)&piece[i], piece_bytes, 0));
    memset(piece[i], 0, piece_bytes);
  }
  DevicePointer slot[2];
  void *sent[2], *staged[2], *copies = make_stream();
  for (int i = 0; i < 2; i++) {
    CHECK(api.cuMemAlloc_v2(&slot[i], largest));
    CHECK(api.cuMemsetD8Async(slot[i], 0, largest, copies));
    sent[i] = make_event();
    staged[i] = make_event();
  }
  CHECK(api.cuStreamSynchronize(copies));

  const double start = now_seconds(), cpu_start = cpu_seconds();
  sem_init(&filled, 0, 0);
  sem_init(&empty, 0, (unsigned)pieces);
  pthread_t reader;
  pthread_create(&reader, NULL, read_files, NULL);

  int at = 0;
  for (size_t f = 0; f < frame_count; f++) {
    if (f >= 2) CHECK(api.cuEventSynchronize(sent[f % 2]));
    for (size_t done = 0; done < frames[f].bytes;) {
      sem_wait(&filled);
      CHECK(api.cuMemcpyHtoDAsync_v2(slot[f % 2] + done, piece[at], filled_bytes[at], copies));
      CHECK(api.cuStreamSynchronize(copies));
      done += filled_bytes[at];
      at = (at + 1) % pieces;
      sem_post(&empty);
    }
    void *bytes = (void *)slot[f % 2];
    CHECK(api.cuEventRecord(staged[f % 2], copies));
    CHECK(api.cuStreamWaitEvent(collectives, staged[f % 2], 0));
    CHECK(api.ncclBroadcast(bytes, bytes, frames[f].bytes, kUint8, 0, comm, collectives));
    CHECK(api.cuEventRecord(sent[f % 2], collectives));
  }
  CHECK(api.cuStreamSynchronize(collectives));
  const double seconds = now_seconds() - start, cpu = cpu_seconds() - cpu_start;
  pthread_join(reader, NULL);

  printf("{\"seconds\": %.6f, \"cpuSeconds\": %.6f, \"peakBytes\": %lu}\n", seconds, cpu,
         peak_kilobytes() * 1024);
  fflush(stdout);
  CHECK(api.ncclCommDestroy(comm));
  return 0;
}
