/* The little of libcuda and libnccl that the plain programs need, opened by path. Any failure ends the
 * program: it says which call failed. */
#pragma once

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t DevicePointer;
typedef struct {
  char bytes[128];
} UniqueId;

static struct {
  int (*cuInit)(unsigned);
  int (*cuDeviceGet)(int *, int);
  int (*cuDevicePrimaryCtxRetain)(void **, int);
  int (*cuCtxSetCurrent)(void *);
  int (*cuMemAlloc_v2)(DevicePointer *, size_t);
  int (*cuMemHostAlloc)(void **, size_t, unsigned);
  int (*cuMemcpyHtoDAsync_v2)(DevicePointer, const void *, size_t, void *);
  int (*cuMemcpyDtoH_v2)(void *, DevicePointer, size_t);
  int (*cuMemsetD8Async)(DevicePointer, unsigned char, size_t, void *);
  int (*cuStreamCreate)(void **, unsigned);
  int (*cuStreamSynchronize)(void *);
  int (*cuStreamWaitEvent)(void *, void *, unsigned);
  int (*cuEventCreate)(void **, unsigned);
  int (*cuEventRecord)(void *, void *);
  int (*cuEventSynchronize)(void *);
  int (*ncclGetUniqueId)(UniqueId *);
  int (*ncclCommInitRank)(void **, int, UniqueId, int);
  int (*ncclAllReduce)(const void *, void *, size_t, int, int, void *, void *);
  int (*ncclBroadcast)(const void *, void *, size_t, int, int, void *, void *);
  int (*ncclCommDestroy)(void *);
} api;

enum { kUint8 = 1, kFloat32 = 7, kSum = 0, kNonBlockingStream = 1, kNoTiming = 2 };

static void die(const char *what, int code) {
  fprintf(stderr, "%s failed: %d\n", what, code);
  exit(1);
}

#define CHECK(call)                       \
  do {                                    \
    const int code_ = (call);             \
    if (code_ != 0) die(#call, code_);    \
  } while (0)

static void *symbol(void *library, const char *name) {
  void *found = dlsym(library, name);
  if (found == NULL) die(name, -1);
  return found;
}

static void open_libraries(const char *cuda_path, const char *nccl_path) {
  void *cuda = dlopen(cuda_path, RTLD_NOW | RTLD_LOCAL);
  void *nccl = dlopen(nccl_path, RTLD_NOW | RTLD_LOCAL);
  if (cuda == NULL || nccl == NULL) die(dlerror(), -1);
#define LOAD(library, name) *(void **)&api.name = symbol(library, #name)
  LOAD(cuda, cuInit);
  LOAD(cuda, cuDeviceGet);
  LOAD(cuda, cuDevicePrimaryCtxRetain);
  LOAD(cuda, cuCtxSetCurrent);
  LOAD(cuda, cuMemAlloc_v2);
  LOAD(cuda, cuMemHostAlloc);
  LOAD(cuda, cuMemcpyHtoDAsync_v2);
  LOAD(cuda, cuMemcpyDtoH_v2);
  LOAD(cuda, cuMemsetD8Async);
  LOAD(cuda, cuStreamCreate);
  LOAD(cuda, cuStreamSynchronize);
  LOAD(cuda, cuStreamWaitEvent);
  LOAD(cuda, cuEventCreate);
  LOAD(cuda, cuEventRecord);
  LOAD(cuda, cuEventSynchronize);
  LOAD(nccl, ncclGetUniqueId);
  LOAD(nccl, ncclCommInitRank);
  LOAD(nccl, ncclAllReduce);
  LOAD(nccl, ncclBroadcast);
  LOAD(nccl, ncclCommDestroy);
#undef LOAD
  CHECK(api.cuInit(0));
  int device = 0;
  void *context = NULL;
  CHECK(api.cuDeviceGet(&device, 0));
  CHECK(api.cuDevicePrimaryCtxRetain(&context, device));
  CHECK(api.cuCtxSetCurrent(context));
}

static void *make_stream(void) {
  void *stream = NULL;
  CHECK(api.cuStreamCreate(&stream, kNonBlockingStream));
  return stream;
}

static void *make_event(void) {
  void *event = NULL;
  CHECK(api.cuEventCreate(&event, kNoTiming));
  return event;
}

/* Joins, and all-reduces one float as vLLM's workers do. */
static void *join_group(UniqueId id, int world_size, int rank, void *stream) {
  void *comm = NULL;
  DevicePointer one = 0;
  CHECK(api.ncclCommInitRank(&comm, world_size, id, rank));
  CHECK(api.cuMemAlloc_v2(&one, sizeof(float)));
  CHECK(api.ncclAllReduce((void *)one, (void *)one, 1, kFloat32, kSum, comm, stream));
  CHECK(api.cuStreamSynchronize(stream));
  return comm;
}

static unsigned long long next_number(FILE *in) {
  unsigned long long value = 0;
  if (fscanf(in, "%llu", &value) != 1) die("reading a number of the plan", -1);
  return value;
}
