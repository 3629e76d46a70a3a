/*
 * A rank that only receives: broadcast after broadcast into two device buffers in turn, as a worker with two
 * packed buffers does.
 *   receiver LIBCUDA LIBNCCL ID_HEX WORLD_SIZE RANK < "count size size …"
 * Prints a sum over one word in every 4 KiB of what arrived: two senders that sent the same give the same.
 */
#include "api.h"

int main(int argc, char **argv) {
  if (argc != 6 || strlen(argv[3]) != 256) die("usage", argc);
  open_libraries(argv[1], argv[2]);
  UniqueId id;
  for (int i = 0; i < 128; i++) sscanf(argv[3] + 2 * i, "%2hhx", (unsigned char *)&id.bytes[i]);

  const size_t count = next_number(stdin);
  size_t *sizes = calloc(count, sizeof *sizes);
  size_t largest = 1;
  for (size_t i = 0; i < count; i++) {
    sizes[i] = next_number(stdin);
    if (sizes[i] > largest) largest = sizes[i];
  }

  void *stream = make_stream();
  DevicePointer buffers[2];
  void *received[2];
  for (int i = 0; i < 2; i++) {
    CHECK(api.cuMemAlloc_v2(&buffers[i], largest));
    // Emulated memory is committed when it is first written: not in the time of a sender.
    CHECK(api.cuMemsetD8Async(buffers[i], 0, largest, stream));
    received[i] = make_event();
  }
  CHECK(api.cuStreamSynchronize(stream));
  void *comm = join_group(id, atoi(argv[4]), atoi(argv[5]), stream);

  uint64_t sum = 0;
  for (size_t i = 0; i < count + 2; i++) {
    if (i >= 2) {
      CHECK(api.cuEventSynchronize(received[i % 2]));
      for (size_t at = 0; at + 8 <= sizes[i - 2]; at += 4096) {
        uint64_t word;
        CHECK(api.cuMemcpyDtoH_v2(&word, buffers[i % 2] + at, 8));
        sum = sum * 31 + word;
      }
    }
    if (i < count) {
      void *buffer = (void *)buffers[i % 2];
      CHECK(api.ncclBroadcast(buffer, buffer, sizes[i], kUint8, 0, comm, stream));
      CHECK(api.cuEventRecord(received[i % 2], stream));
    }
  }
  printf("%016llx\n", (unsigned long long)sum);
  fflush(stdout);
  CHECK(api.ncclCommDestroy(comm));
  return 0;
}
