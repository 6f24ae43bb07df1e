/* A library to preload: the n-th call of one kind that concerns files below a folder fails.
 *
 *   FAIL_BELOW   the folder
 *   FAIL_CALL    open, write, fsync, rename, mmap; open: of files to be created or written
 *   FAIL_NUMBER  counted from 1; 0: none
 *   FAIL_HOW     ENOSPC, EIO, or for write EINTR, or short: only a part is written
 *   FAIL_COUNTS  a file that gets a line per kind of call at the end: how many there were
 *
 * Calls inside the C library (stdio) cannot be caught. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

enum { kOpen, kWrite, kFsync, kRename, kMmap, kKinds };
static const char *const names[kKinds] = {"open", "write", "fsync", "rename", "mmap"};
static atomic_int counts[kKinds];

static void *real(const char *name) {
  return dlsym(RTLD_NEXT, name);
}

static int below(const char *path) {
  const char *const folder = getenv("FAIL_BELOW");
  char whole[PATH_MAX];
  if (folder == NULL || path == NULL) return 0;
  if (path[0] != '/') {
    if (getcwd(whole, sizeof whole) == NULL || strlen(whole) + strlen(path) + 2 > sizeof whole) return 0;
    strcat(strcat(whole, "/"), path);
    path = whole;
  }
  return strncmp(path, folder, strlen(folder)) == 0;
}

static int fd_below(int fd) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return below(path);
}

/* Whether this call, one of those that count, is the one that fails. */
static int fails(int kind) {
  const int number = atomic_fetch_add(&counts[kind], 1) + 1;
  const char *const call = getenv("FAIL_CALL"), *const wanted = getenv("FAIL_NUMBER");
  return call != NULL && wanted != NULL && strcmp(call, names[kind]) == 0 && atoi(wanted) == number;
}

static int fail(void) {
  const char *const how = getenv("FAIL_HOW");
  errno = how == NULL || strcmp(how, "ENOSPC") == 0 ? ENOSPC : strcmp(how, "EINTR") == 0 ? EINTR : EIO;
  return -1;
}

static int is_short(void) {
  const char *const how = getenv("FAIL_HOW");
  return how != NULL && strcmp(how, "short") == 0;
}

static int opened(const char *symbol, int at, int folder, const char *path, int flags, mode_t mode) {
  if ((flags & (O_CREAT | O_WRONLY | O_RDWR)) != 0 && below(path) && fails(kOpen)) return fail();
  if (at) return ((int (*)(int, const char *, int, ...))real(symbol))(folder, path, flags, mode);
  return ((int (*)(const char *, int, ...))real(symbol))(path, flags, mode);
}

#define MODE_OF(flags)             \
  mode_t mode = 0;                 \
  if ((flags & O_CREAT) != 0) {    \
    va_list more;                  \
    va_start(more, flags);         \
    mode = va_arg(more, mode_t);   \
    va_end(more);                  \
  }

int open(const char *path, int flags, ...) {
  MODE_OF(flags)
  return opened("open", 0, 0, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
  MODE_OF(flags)
  return opened("open64", 0, 0, path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
  MODE_OF(flags)
  return opened("openat", 1, folder, path, flags, mode);
}

ssize_t write(int fd, const void *data, size_t size) {
  ssize_t (*const next)(int, const void *, size_t) = real("write");
  if (fd > 2 && fd_below(fd) && fails(kWrite)) {
    if (!is_short()) return fail();
    return next(fd, data, size > 1 ? size / 2 : size);
  }
  return next(fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
  ssize_t (*const next)(int, const void *, size_t, off64_t) = real("pwrite64");
  if (fd_below(fd) && fails(kWrite)) {
    if (!is_short()) return fail();
    return next(fd, data, size > 1 ? size / 2 : size, at);
  }
  return next(fd, data, size, at);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  return pwrite64(fd, data, size, at);
}

int fsync(int fd) {
  if (fd_below(fd) && fails(kFsync)) return fail();
  return ((int (*)(int))real("fsync"))(fd);
}

int rename(const char *from, const char *to) {
  if (below(to) && fails(kRename)) return fail();
  return ((int (*)(const char *, const char *))real("rename"))(from, to);
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t at) {
  if (fd >= 0 && fd_below(fd) && fails(kMmap)) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  return ((void *(*)(void *, size_t, int, int, int, off_t))real("mmap"))(address, size, protection, flags, fd, at);
}

__attribute__((destructor)) static void report(void) {
  const char *const path = getenv("FAIL_COUNTS");
  if (path == NULL) return;
  FILE *const file = fopen(path, "w");
  if (file == NULL) return;
  for (int kind = 0; kind < kKinds; ++kind) fprintf(file, "%s %d\n", names[kind], counts[kind]);
  fclose(file);
}
