/*
 * A rank that holds a model: it receives the version before, untimed; then, between all-reduces of all ranks, either the new version whole, straight into its
 * place, or its delta, which it applies element by element once it has all of it, as a worker does.
 *   delta_receiver LIBCUDA LIBNCCL ID_HEX WORLD_SIZE RANK < "numbers bytes frames size … tensors offset item updates …"
 * No tensors: the whole version. Prints a sum over all words of the model in the end: equal models give equal sums.
 */
#include "api.h"

enum { kInt32Bytes = 4 };

struct Patch {
  size_t offset, item, updates;
};

static void *comm, *stream;

static void receive(void *at, size_t bytes) {
  CHECK(api.ncclBroadcast(at, at, bytes, kUint8, 0, comm, stream));
}

static void meet(float *one) {
  CHECK(api.ncclAllReduce(one, one, 1, kFloat32, kSum, comm, stream));
  CHECK(api.cuStreamSynchronize(stream));
}

static void receive_whole(char *model, const size_t *sizes, size_t count) {
  for (size_t i = 0; i < count; i++) {
    receive(model, sizes[i]);
    model += sizes[i];
  }
  CHECK(api.cuStreamSynchronize(stream));
}

static void apply(char *model, const struct Patch *patch, const int32_t *indices, const char *values) {
  char *tensor = model + patch->offset;
  if (patch->item == 2) {
    const uint16_t *value = (const uint16_t *)values;
    for (size_t i = 0; i < patch->updates; i++) ((uint16_t *)tensor)[indices[i]] = value[i];
    return;
  }
  for (size_t i = 0; i < patch->updates; i++)
    memcpy(tensor + indices[i] * patch->item, values + i * patch->item, patch->item);
}

int main(int argc, char **argv) {
  if (argc != 6 || strlen(argv[3]) != 256) die("usage", argc);
  open_libraries(argv[1], argv[2]);
  UniqueId id;
  for (int i = 0; i < 128; i++) sscanf(argv[3] + 2 * i, "%2hhx", (unsigned char *)&id.bytes[i]);
  (void)next_number(stdin);
  const size_t bytes = next_number(stdin), frames = next_number(stdin);
  size_t *sizes = calloc(frames + 1, sizeof *sizes);
  for (size_t i = 0; i < frames; i++) sizes[i] = next_number(stdin);
  const size_t tensors = next_number(stdin);
  struct Patch *patches = calloc(tensors + 1, sizeof *patches);
  size_t total = 0;
  for (size_t i = 0; i < tensors; i++) {
    patches[i] = (struct Patch){next_number(stdin), 0, 0};
    patches[i].item = next_number(stdin);
    patches[i].updates = next_number(stdin);
    total += patches[i].updates * (kInt32Bytes + patches[i].item);
  }
  char *model = malloc(bytes + 8), *delta = malloc(total + 1);
  // Memory is committed when it is first written: not in the time that is measured. Not with zeros: a compiler makes a calloc of that, which commits nothing.
  memset(model, 1, bytes + 8);
  memset(delta, 1, total + 1);
  float one = 0;
  stream = make_stream();
  comm = join_group(id, atoi(argv[4]), atoi(argv[5]), stream);

  receive_whole(model, sizes, frames);
  meet(&one);
  if (tensors == 0) {
    receive_whole(model, sizes, frames);
    meet(&one);
  } else {
    // All of it arrives before any of it is applied, as in vLLM.
    char *at = delta;
    for (size_t i = 0; i < tensors; i++) {
      receive(at, patches[i].updates * kInt32Bytes);
      at += patches[i].updates * kInt32Bytes;
      receive(at, patches[i].updates * patches[i].item);
      at += patches[i].updates * patches[i].item;
    }
    CHECK(api.cuStreamSynchronize(stream));
    meet(&one);
    at = delta;
    for (size_t i = 0; i < tensors; i++) {
      const char *values = at + patches[i].updates * kInt32Bytes;
      apply(model, &patches[i], (const int32_t *)at, values);
      at += patches[i].updates * (kInt32Bytes + patches[i].item);
    }
  }
  meet(&one);

  uint64_t sum = 0, word;
  for (size_t i = 0; i < bytes; i += 8) {
    memcpy(&word, model + i, 8);
    sum = sum * 31 + word;
  }
  printf("%016llx\n", (unsigned long long)sum);
  fflush(stdout);
  CHECK(api.ncclCommDestroy(comm));
  return 0;
}
