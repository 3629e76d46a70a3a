/*
 * LD_PRELOAD for the crash harness: counts the calls by which a process changes what lies under one folder, and at one of them kills the process, or has
 * the call fail. What to do stands in a file that the harness writes and this maps: see control.ts, which has the same layout.
 * Reading calls are not counted: a kill beside one finds on the disk what the kill at the call before it found.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { OPEN, WRITE, ALLOCATE, TRUNCATE, SYNC, CLOSE, RENAME, LINK, UNLINK, MKDIR, RMDIR, TIMES };
enum act { PASS, BEFORE, HALF, AFTER, FAIL, SHORT, FULL };
enum { TRACE_BYTES = 8192, FOLDER_BYTES = 1024, MOST_FDS = 1 << 16 };

struct control {
  uint32_t act;
  /* The how-many-eth call it happens at, from 1 on. */
  uint32_t at;
  int32_t error;
  /* Bit k: calls of kind k count. */
  uint32_t kinds;
  _Atomic uint32_t count;
  /* 1 + its kind, once it has happened. */
  _Atomic uint32_t hit;
  char folder[FOLDER_BYTES];
  /* The kinds in the order of the calls. */
  uint8_t trace[TRACE_BYTES];
};

static struct control *control;
/* Of descriptors: 1 opened for reading, 2 for writing, of what lies under the folder. */
static _Atomic uint8_t inside[MOST_FDS];

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("WEIGHTCAST_FAULT_CONTROL");
  if (path == NULL) return;
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
  if (fd < 0) abort();
  void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) abort();
  syscall(SYS_close, fd);
  control = mapped;
}

#define NEXT(name)                                                \
  static __typeof__(&name) next;                                  \
  if (next == NULL) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static void die(void) {
  syscall(SYS_kill, (pid_t)syscall(SYS_getpid), SIGKILL);
  for (;;) pause();
}

static int is_inside(const char *path) {
  if (control == NULL || path == NULL) return 0;
  size_t length = strlen(control->folder);
  return length > 0 && strncmp(path, control->folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static int fd_state(int fd) { return fd >= 0 && fd < MOST_FDS ? inside[fd] : 0; }

static enum act enter(enum kind kind) {
  if ((control->kinds & (1u << kind)) == 0) return PASS;
  uint32_t count = atomic_fetch_add(&control->count, 1) + 1;
  if (count <= TRACE_BYTES) control->trace[count - 1] = kind;
  if (control->act == PASS || count < control->at) return PASS;
  if (control->act != FULL && count != control->at) return PASS;
  atomic_store(&control->hit, 1 + kind);
  /* As a disk does that has no room: so it is from here on. */
  if (control->act == FULL) return FAIL;
  if (control->act == BEFORE) die();
  return control->act;
}

static void leave(enum act act) {
  if (act == AFTER || act == HALF) die();
}

/* A call that says -1 and errno, about a path or a descriptor. */
#define CHANGE(is_counted, kind, call)         \
  if (!(is_counted)) return call;              \
  enum act act = enter(kind);                  \
  if (act == FAIL) {                           \
    errno = control->error;                    \
    return -1;                                 \
  }                                            \
  __typeof__(call) result = call;              \
  int kept = errno;                            \
  leave(act);                                  \
  errno = kept;                                \
  return result

static int opened(const char *path, int flags, int fd) {
  if (fd >= 0 && fd < MOST_FDS) inside[fd] = is_inside(path) ? ((flags & O_ACCMODE) == O_RDONLY ? 1 : 2) : 0;
  return fd;
}

#define OPENING(call)                                                      \
  mode_t mode = 0;                                                         \
  if (flags & (O_CREAT | __O_TMPFILE)) {                                   \
    va_list rest;                                                          \
    va_start(rest, flags);                                                 \
    mode = va_arg(rest, mode_t);                                           \
    va_end(rest);                                                          \
  }                                                                        \
  int is_change = is_inside(path) && (flags & (O_CREAT | O_TRUNC)) != 0;   \
  CHANGE(is_change, OPEN, opened(path, flags, call))

int open(const char *path, int flags, ...) { NEXT(open); OPENING(next(path, flags, mode)); }
int open64(const char *path, int flags, ...) { NEXT(open64); OPENING(next(path, flags, mode)); }
int openat(int at, const char *path, int flags, ...) { NEXT(openat); OPENING(next(at, path, flags, mode)); }
int openat64(int at, const char *path, int flags, ...) { NEXT(openat64); OPENING(next(at, path, flags, mode)); }

/* A write may be cut in half: the process is killed after that, or goes on. */
#define WRITING(length, call, half)                                       \
  if (fd_state(fd) != 2) return call;                                     \
  enum act act = enter(WRITE);                                            \
  if (act == FAIL) {                                                      \
    errno = control->error;                                               \
    return -1;                                                            \
  }                                                                       \
  ssize_t result = (act == HALF || act == SHORT) && (length) > 1 ? half : call; \
  int kept = errno;                                                       \
  leave(act);                                                             \
  errno = kept;                                                           \
  return result

ssize_t write(int fd, const void *bytes, size_t length) {
  NEXT(write);
  WRITING(length, next(fd, bytes, length), next(fd, bytes, length / 2));
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
  NEXT(pwrite);
  WRITING(length, next(fd, bytes, length, offset), next(fd, bytes, length / 2, offset));
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
  NEXT(pwrite64);
  WRITING(length, next(fd, bytes, length, offset), next(fd, bytes, length / 2, offset));
}
/* Half of the parts, or half of the only one. */
static struct iovec half_of(const struct iovec *parts) {
  struct iovec part = {parts[0].iov_base, parts[0].iov_len / 2};
  return part;
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  NEXT(writev);
  struct iovec half = half_of(parts);
  WRITING(half.iov_len + 1, next(fd, parts, count), next(fd, &half, 1));
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
  NEXT(pwritev);
  struct iovec half = half_of(parts);
  WRITING(half.iov_len + 1, next(fd, parts, count, offset), next(fd, &half, 1, offset));
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
  NEXT(pwritev64);
  struct iovec half = half_of(parts);
  WRITING(half.iov_len + 1, next(fd, parts, count, offset), next(fd, &half, 1, offset));
}

int fallocate(int fd, int mode, off_t offset, off_t length) { NEXT(fallocate); CHANGE(fd_state(fd), ALLOCATE, next(fd, mode, offset, length)); }
int fallocate64(int fd, int mode, off64_t offset, off64_t length) { NEXT(fallocate64); CHANGE(fd_state(fd), ALLOCATE, next(fd, mode, offset, length)); }
/* These answer with the number of the error. */
static int allocated(int fd, int result) {
  if (!fd_state(fd)) return result;
  enum act act = enter(ALLOCATE);
  if (act == FAIL) return control->error;
  leave(act);
  return result;
}
int posix_fallocate(int fd, off_t offset, off_t length) { NEXT(posix_fallocate); return allocated(fd, next(fd, offset, length)); }
int posix_fallocate64(int fd, off64_t offset, off64_t length) { NEXT(posix_fallocate64); return allocated(fd, next(fd, offset, length)); }
int ftruncate(int fd, off_t length) { NEXT(ftruncate); CHANGE(fd_state(fd), TRUNCATE, next(fd, length)); }
int ftruncate64(int fd, off64_t length) { NEXT(ftruncate64); CHANGE(fd_state(fd), TRUNCATE, next(fd, length)); }

int fsync(int fd) { NEXT(fsync); CHANGE(fd_state(fd), SYNC, next(fd)); }
int fdatasync(int fd) { NEXT(fdatasync); CHANGE(fd_state(fd), SYNC, next(fd)); }
static int closing(int fd, int (*next)(int)) {
  int state = fd_state(fd);
  if (state) inside[fd] = 0;
  if (state != 2) return next(fd);
  enum act act = enter(CLOSE);
  int result = next(fd);
  leave(act);
  if (act != FAIL) return result;
  errno = control->error;
  return -1;
}
int close(int fd) { NEXT(close); return closing(fd, next); }
/* libuv closes this way. Its other raw calls read, or are io_uring's, which the harness turns off. */
static int raw_close(int fd) {
  static long (*next)(long, ...);
  if (next == NULL) next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  return (int)next(SYS_close, fd);
}
long syscall(long number, ...) {
  static long (*next)(long, ...);
  if (next == NULL) next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  va_list rest;
  va_start(rest, number);
  long a = va_arg(rest, long), b = va_arg(rest, long), c = va_arg(rest, long);
  long d = va_arg(rest, long), e = va_arg(rest, long), f = va_arg(rest, long);
  va_end(rest);
  if (number == SYS_close && control != NULL) return closing((int)a, raw_close);
  return next(number, a, b, c, d, e, f);
}

int rename(const char *from, const char *to) { NEXT(rename); CHANGE(is_inside(to), RENAME, next(from, to)); }
int renameat(int a, const char *from, int b, const char *to) { NEXT(renameat); CHANGE(is_inside(to), RENAME, next(a, from, b, to)); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { NEXT(renameat2); CHANGE(is_inside(to), RENAME, next(a, from, b, to, flags)); }
int link(const char *from, const char *to) { NEXT(link); CHANGE(is_inside(to), LINK, next(from, to)); }
int linkat(int a, const char *from, int b, const char *to, int flags) { NEXT(linkat); CHANGE(is_inside(to), LINK, next(a, from, b, to, flags)); }
int unlink(const char *path) { NEXT(unlink); CHANGE(is_inside(path), UNLINK, next(path)); }
int unlinkat(int at, const char *path, int flags) { NEXT(unlinkat); CHANGE(is_inside(path), UNLINK, next(at, path, flags)); }
/* One that is there already is only looked for. */
int mkdir(const char *path, mode_t mode) { NEXT(mkdir); CHANGE(is_inside(path) && access(path, F_OK) != 0, MKDIR, next(path, mode)); }
int rmdir(const char *path) { NEXT(rmdir); CHANGE(is_inside(path), RMDIR, next(path)); }
int utimensat(int at, const char *path, const struct timespec times[2], int flags) { NEXT(utimensat); CHANGE(is_inside(path), TIMES, next(at, path, times, flags)); }
int futimens(int fd, const struct timespec times[2]) { NEXT(futimens); CHANGE(fd_state(fd), TIMES, next(fd, times)); }
