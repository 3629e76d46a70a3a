/*
 * What a delta is held against, in plain C over pairs of files, block by block, on so many threads:
 *   delta_peers read THREADS BASE NEW [BASE NEW …]          reads both and compares them: what no comparison can beat
 *   delta_peers xor THREADS OUT BASE NEW [BASE NEW …]       writes zstd -1 of BASE xor NEW
 *   delta_peers unxor THREADS OUT BASE TARGET [BASE …]      the new files out of it, with OpenSSL's SHA-256 of each block
 *   delta_peers pairs THREADS OUT BASE NEW [BASE NEW …]     writes an int32 index and the value of each 16-bit element that differs
 * Prints seconds, bytes of OUT, and blocks (read) that differ or elements (pairs).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK ((size_t)1 << 20)
#define CALL_BYTES ((size_t)256 << 10)

typedef struct {
  int base, other;
  uint64_t bytes;
  size_t first; /* of its blocks */
} Pair;

typedef struct {
  uint64_t offset, bytes;
} Stored;

typedef struct {
  uint8_t *base, *other, *out;
  size_t room;
  void *zstd;
} Buffers;

static Pair *pairs;
static size_t pair_count, blocks;
static Stored *table;
static int out = -1;
static atomic_size_t next_block;
static atomic_ullong out_end, found;

static size_t (*zstd_compress)(void *, void *, size_t, const void *, size_t, int);
static size_t (*zstd_decompress)(void *, void *, size_t, const void *, size_t);
static void *(*zstd_compressor)(void), *(*zstd_decompressor)(void);
static unsigned char *(*openssl_sha256)(const unsigned char *, size_t, unsigned char *);

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void *symbol(void *library, const char *name) {
  void *found_symbol = library == NULL ? NULL : dlsym(library, name);
  if (found_symbol == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    exit(1);
  }
  return found_symbol;
}

static void read_all(int file, void *to, size_t bytes, uint64_t offset) {
  for (size_t at = 0; at < bytes;) {
    const size_t want = bytes - at < CALL_BYTES ? bytes - at : CALL_BYTES;
    const ssize_t got = pread(file, (char *)to + at, want, (off_t)(offset + at));
    if (got <= 0) die("pread");
    at += (size_t)got;
  }
}

static void write_all(int file, const void *from, size_t bytes, uint64_t offset) {
  for (size_t at = 0; at < bytes;) {
    const size_t want = bytes - at < CALL_BYTES ? bytes - at : CALL_BYTES;
    const ssize_t put = pwrite(file, (const char *)from + at, want, (off_t)(offset + at));
    if (put <= 0) die("pwrite");
    at += (size_t)put;
  }
}

static void put(size_t block, const void *from, size_t bytes) {
  table[block] = (Stored){atomic_fetch_add(&out_end, bytes), bytes};
  write_all(out, from, bytes, table[block].offset);
}

static void xor_into(uint8_t *target, const uint8_t *other, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) target[i] ^= other[i];
}

static void compare(const Pair *pair, uint64_t offset, size_t bytes, Buffers *buffers) {
  /* As much at a time as stays in a core's second-level cache. */
  int differs = 0;
  for (size_t at = 0; at < bytes; at += CALL_BYTES) {
    const size_t want = bytes - at < CALL_BYTES ? bytes - at : CALL_BYTES;
    read_all(pair->base, buffers->base, want, offset + at);
    read_all(pair->other, buffers->other, want, offset + at);
    /* memcmp ends at the first difference; this looks at every byte. */
    uint64_t any = 0;
    const uint64_t *a = (const uint64_t *)buffers->base, *b = (const uint64_t *)buffers->other;
    for (size_t i = 0; i < want / 8; i++) any |= a[i] ^ b[i];
    if (any != 0 || memcmp((const char *)a + want / 8 * 8, (const char *)b + want / 8 * 8, want % 8) != 0) differs = 1;
  }
  if (differs) atomic_fetch_add(&found, 1);
}

static void compress_xor(const Pair *pair, uint64_t offset, size_t bytes, size_t block, Buffers *buffers) {
  read_all(pair->base, buffers->base, bytes, offset);
  read_all(pair->other, buffers->other, bytes, offset);
  xor_into(buffers->base, buffers->other, bytes);
  put(block, buffers->out, zstd_compress(buffers->zstd, buffers->out, buffers->room, buffers->base, bytes, 1));
}

static void apply_xor(const Pair *pair, uint64_t offset, size_t bytes, size_t block, Buffers *buffers) {
  unsigned char digest[32];
  read_all(pair->base, buffers->base, bytes, offset);
  read_all(out, buffers->out, table[block].bytes, table[block].offset);
  if (zstd_decompress(buffers->zstd, buffers->other, bytes, buffers->out, table[block].bytes) != bytes) die("zstd");
  xor_into(buffers->other, buffers->base, bytes);
  openssl_sha256(buffers->other, bytes, digest);
  write_all(pair->other, buffers->other, bytes, offset);
}

static void list_elements(const Pair *pair, uint64_t offset, size_t bytes, size_t block, Buffers *buffers) {
  read_all(pair->base, buffers->base, bytes, offset);
  read_all(pair->other, buffers->other, bytes, offset);
  const uint16_t *a = (const uint16_t *)buffers->base, *b = (const uint16_t *)buffers->other;
  int32_t *indices = (int32_t *)buffers->out;
  uint16_t *values = (uint16_t *)(buffers->out + 2 * BLOCK);
  const int32_t first = (int32_t)(offset / 2);
  size_t count = 0;
  for (size_t i = 0; i < bytes / 2; i++) {
    indices[count] = first + (int32_t)i;
    values[count] = b[i];
    count += a[i] != b[i];
  }
  memmove(indices + count, values, 2 * count);
  put(block, indices, 6 * count);
  atomic_fetch_add(&found, count);
}

static char mode;

static void *work(void *unused) {
  (void)unused;
  Buffers buffers = {.room = 4 * BLOCK};
  buffers.base = aligned_alloc(4096, BLOCK);
  buffers.other = aligned_alloc(4096, BLOCK);
  buffers.out = aligned_alloc(4096, buffers.room);
  if (mode == 'x') buffers.zstd = zstd_compressor();
  if (mode == 'u') buffers.zstd = zstd_decompressor();
  size_t block;
  while ((block = atomic_fetch_add(&next_block, 1)) < blocks) {
    size_t i = pair_count - 1;
    while (pairs[i].first > block) i--;
    const Pair *pair = &pairs[i];
    const uint64_t offset = (block - pair->first) * BLOCK;
    const size_t bytes = pair->bytes - offset < BLOCK ? pair->bytes - offset : BLOCK;
    if (mode == 'r') compare(pair, offset, bytes, &buffers);
    if (mode == 'x') compress_xor(pair, offset, bytes, block, &buffers);
    if (mode == 'u') apply_xor(pair, offset, bytes, block, &buffers);
    if (mode == 'p') list_elements(pair, offset, bytes, block, &buffers);
  }
  return NULL;
}

static void open_libraries(void) {
  void *zstd = dlopen("libzstd.so.1", RTLD_NOW);
  *(void **)&zstd_compress = symbol(zstd, "ZSTD_compressCCtx");
  *(void **)&zstd_decompress = symbol(zstd, "ZSTD_decompressDCtx");
  *(void **)&zstd_compressor = symbol(zstd, "ZSTD_createCCtx");
  *(void **)&zstd_decompressor = symbol(zstd, "ZSTD_createDCtx");
  if (mode != 'u') return;
  *(void **)&openssl_sha256 = symbol(dlopen("libcrypto.so.3", RTLD_NOW), "SHA256");
}

static void open_pair(Pair *pair, const char *base, const char *other) {
  struct stat status;
  pair->base = open(base, O_RDONLY);
  if (pair->base < 0 || fstat(pair->base, &status) != 0) die(base);
  pair->bytes = (uint64_t)status.st_size;
  pair->other = mode == 'u' ? open(other, O_WRONLY | O_CREAT | O_EXCL, 0666) : open(other, O_RDONLY);
  if (pair->other < 0) die(other);
  if (mode == 'u') (void)!fallocate(pair->other, 0, 0, (off_t)pair->bytes);
  pair->first = blocks;
  blocks += (pair->bytes + BLOCK - 1) / BLOCK;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
  mode = argc > 1 ? argv[1][0] : 0;
  const int first = mode == 'r' ? 3 : 4;
  if (argc < first + 2 || (argc - first) % 2 != 0) return fprintf(stderr, "usage\n"), 2;
  if (mode == 'x' || mode == 'u') open_libraries();
  if (mode != 'r') out = open(argv[3], mode == 'u' ? O_RDONLY : O_RDWR | O_CREAT | O_TRUNC, 0666);
  if (mode != 'r' && out < 0) die(argv[3]);
  const int threads = atoi(argv[2]);
  pthread_t *ids = calloc((size_t)threads, sizeof *ids);
  pairs = calloc((size_t)argc, sizeof *pairs);

  const double began = now();
  for (int i = first; i < argc; i += 2) open_pair(&pairs[pair_count++], argv[i], argv[i + 1]);
  table = calloc(blocks, sizeof *table);
  if (mode == 'u') {
    struct stat status;
    if (fstat(out, &status) != 0) die("fstat");
    read_all(out, table, blocks * sizeof *table, (uint64_t)status.st_size - blocks * sizeof *table);
  }
  for (int i = 0; i < threads; i++) pthread_create(&ids[i], NULL, work, NULL);
  for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
  if (mode == 'x') write_all(out, table, blocks * sizeof *table, out_end);
  if (mode == 'u') {
    for (size_t i = 0; i < pair_count; i++) close(pairs[i].other);
  }
  printf("%.6f %llu %llu\n", now() - began, (unsigned long long)out_end, (unsigned long long)found);
  return 0;
}
