/*
 * A checkpoint as the next training step leaves it: copies of safetensors files of bf16 in which a share of the elements,
 * at random places, is another.
 *   perturb KIND FRACTION SOURCE TARGET [SOURCE TARGET …]
 * KIND ulp: by 1 unit in the last place in three of four, by 2 in three of four of the rest, and so on, up or down.
 * KIND random: any other 16 bits. Targets are on the disk at the end; prints the number of elements that changed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CALL_BYTES ((size_t)256 << 10)

static uint64_t state = 0x9e3779b97f4a7c15;

static void die(const char *what) {
  perror(what);
  exit(1);
}

/* xorshift64* */
static uint64_t bits(void) {
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 0x2545f4914f6cdd1d;
}

/* How many elements stay as they are before the next that changes. */
static uint64_t gap(double log_of_rest) {
  const double uniform = (double)((bits() >> 11) + 1) / 9007199254740992.0;
  return (uint64_t)(log(uniform) / log_of_rest);
}

static uint16_t by_ulps(uint16_t value) {
  const uint64_t random = bits();
  uint16_t ulps = 1;
  for (uint64_t rest = random >> 1; (rest & 3) == 0 && ulps < 30; rest >>= 2) ulps++;
  return (uint16_t)(random & 1 ? value + ulps : value - ulps);
}

static uint16_t by_chance(uint16_t value) { return (uint16_t)(value + 1 + bits() % 65535); }

static uint64_t header_bytes(int file) {
  uint64_t length;
  if (pread(file, &length, sizeof length, 0) != sizeof length) die("header");
  return sizeof length + length;
}

static uint64_t perturb(const char *from, const char *to, double log_of_rest, uint16_t (*change)(uint16_t)) {
  const int source = open(from, O_RDONLY), target = open(to, O_WRONLY | O_CREAT | O_EXCL, 0666);
  if (source < 0 || target < 0) die(to);
  uint16_t *buffer = aligned_alloc(4096, CALL_BYTES);
  const uint64_t begin = header_bytes(source);
  uint64_t at = 0, changed = 0;
  uint64_t next = (begin + 1) / 2 + gap(log_of_rest); /* in elements of the file */
  for (;;) {
    const ssize_t got = pread(source, buffer, CALL_BYTES, (off_t)at);
    if (got < 0) die("pread");
    if (got == 0) break;
    for (const uint64_t first = at / 2, end = (at + (uint64_t)got) / 2; next < end; next += 1 + gap(log_of_rest)) {
      buffer[next - first] = change(buffer[next - first]);
      changed++;
    }
    if (pwrite(target, buffer, (size_t)got, (off_t)at) != got) die("pwrite");
    at += (uint64_t)got;
  }
  if (fdatasync(target) != 0 || close(target) != 0) die("close");
  close(source);
  free(buffer);
  return changed;
}

int main(int argc, char **argv) {
  if (argc < 5 || argc % 2 == 0) return fprintf(stderr, "usage\n"), 2;
  const double log_of_rest = log1p(-atof(argv[2]));
  uint64_t changed = 0;
  for (int i = 3; i < argc; i += 2) {
    changed += perturb(argv[i], argv[i + 1], log_of_rest, strcmp(argv[1], "ulp") == 0 ? by_ulps : by_chance);
  }
  printf("%llu\n", (unsigned long long)changed);
  return 0;
}
