/* A disk that can lose power: keeps, beside each file of the store, what of it was ever synced.
 *
 * Preloaded into the server. Writes to the store's files go through as they are and are also
 * remembered; a sync carries the remembered ones over into the shadow folder. After a kill the
 * shadow holds exactly what a machine without power would find: the files as of their last sync.
 *
 * It can also fail. The file `control` in the shadow folder is shared memory: words of 64 bits by
 * which a test counts the calls on the store's files and says which of them are to fail, or which is
 * the last thing that the process does; see the enum below.
 *
 * POWER_DATA: the folder watched, files named tripline.db*, without the shared memory, which SQLite
 * rebuilds. POWER_SHADOW: the shadow folder; while it holds a file `ignore-sync`, no sync counts. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#define STORE "tripline.db"
#define PAGE 4096

struct change {
  struct change *next;
  off_t at;
  size_t length; /* of `bytes`; a truncation has none */
  int truncates;
  char bytes[];
};

struct file {
  struct file *next;
  char name[NAME_MAX + 1];
  struct change *first, **last;
};

/* Words of the control. A call that is the n-th of its kind, from 1, fails when FROM <= n < TO. */
enum {
  SYNCS, WRITES, /* calls so far */
  SYNC_FROM, SYNC_TO, WRITE_FROM, WRITE_TO,
  CALLS, /* of both kinds */
  LAST,  /* number of the call instead of which the process is killed */
  FAILED, /* calls that failed so far */
  DELAY /* milliseconds that each sync takes longer */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static unsigned long long *control;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file *files;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (!found) abort();
  return found;
}

/* Name below POWER_DATA when `path` is watched, else null. */
static const char *watched(const char *path) {
  const char *data = getenv("POWER_DATA");
  if (!data || strncmp(path, data, strlen(data)) || path[strlen(data)] != '/') return NULL;
  const char *name = path + strlen(data) + 1;
  size_t length = strlen(name);
  if (strncmp(name, STORE, strlen(STORE)) || strchr(name, '/')) return NULL;
  if (length > 4 && !strcmp(name + length - 4, "-shm")) return NULL;
  return name;
}

/* The watched file behind a descriptor. Call with the lock held. */
static struct file *file_of(int fd) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return NULL;
  path[length] = 0;
  const char *name = watched(path);
  if (!name) return NULL;
  for (struct file *file = files; file; file = file->next)
    if (!strcmp(file->name, name)) return file;
  struct file *file = calloc(1, sizeof *file);
  strcpy(file->name, name);
  file->last = &file->first;
  file->next = files;
  return files = file;
}

static void remember(int fd, off_t at, const void *bytes, size_t length, int truncates) {
  pthread_mutex_lock(&lock);
  struct file *file = file_of(fd);
  if (file) {
    struct change *change = malloc(sizeof *change + length);
    *change = (struct change){.at = at, .length = length, .truncates = truncates};
    if (length) memcpy(change->bytes, bytes, length);
    *file->last = change;
    file->last = &change->next;
  }
  pthread_mutex_unlock(&lock);
}

/* Call with the lock held. */
static void forget_all(struct file *file) {
  for (struct change *change = file->first, *next; change; change = next) {
    next = change->next;
    free(change);
  }
  file->first = NULL;
  file->last = &file->first;
}

static int shadow_path(char *path, const char *name) {
  return snprintf(path, PATH_MAX, "%s/%s", getenv("POWER_SHADOW"), name);
}

static void map_control(void) {
  char path[PATH_MAX];
  shadow_path(path, "control");
  int fd = open(path, O_RDWR);
  if (fd < 0) abort();
  control = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (control == MAP_FAILED) abort();
  close(fd);
}

static unsigned long long count(int word) {
  return __atomic_add_fetch(&control[word], 1, __ATOMIC_SEQ_CST);
}

/* Counts a call on `fd`, if that is one of the store's files, and whether it is to fail. */
static int fails(int fd, int calls, int from) {
  pthread_mutex_lock(&lock);
  int is_store = file_of(fd) != NULL;
  pthread_mutex_unlock(&lock);
  if (!is_store) return 0;
  pthread_once(&once, map_control);
  if (count(CALLS) == __atomic_load_n(&control[LAST], __ATOMIC_SEQ_CST)) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
  unsigned long long n = count(calls);
  if (n < __atomic_load_n(&control[from], __ATOMIC_SEQ_CST)) return 0;
  if (n >= __atomic_load_n(&control[from + 1], __ATOMIC_SEQ_CST)) return 0;
  count(FAILED);
  return 1;
}

#define WRITE_MAY_FAIL(fd)              \
  if (fails(fd, WRITES, WRITE_FROM)) {  \
    errno = ENOSPC;                     \
    return -1;                          \
  }
/* Call with the lock held. */
static void tear_all(struct file *file) {
  char path[PATH_MAX], torn[PAGE];
  memset(torn, 0xff, sizeof torn);
  shadow_path(path, file->name);
  int shadow = open(path, O_CREAT | O_WRONLY, 0600);
  if (shadow < 0) abort();
  for (struct change *change = file->first; change; change = change->next)
    for (off_t at = change->at / PAGE * PAGE; at < change->at + (off_t)change->length; at += PAGE)
      if (REAL(pwrite)(shadow, torn, sizeof torn, at) != PAGE) abort();
  close(shadow);
}

/* A sync that fails leaves pages in the cache that no later one writes, unless they are changed anew;
 * what is on disk in their place may be torn. */
#define SYNC_MAY_FAIL(fd)             \
  if (fails(fd, SYNCS, SYNC_FROM)) {  \
    forget(fd);                       \
    errno = EIO;                      \
    return -1;                        \
  }

/* What was written since the last sync is nowhere but in the cache, for good; of the log, the whole
 * pages that it stood in are lost. */
static void forget(int fd) {
  pthread_mutex_lock(&lock);
  struct file *file = file_of(fd);
  if (file) {
    size_t length = strlen(file->name);
    if (length > 4 && !strcmp(file->name + length - 4, "-wal")) tear_all(file);
    forget_all(file);
  }
  pthread_mutex_unlock(&lock);
}

/* What was written before the sync began is on disk now. */
static void carry_over(int fd) {
  char path[PATH_MAX];
  shadow_path(path, "ignore-sync");
  if (!access(path, F_OK)) return;
  pthread_mutex_lock(&lock);
  struct file *file = file_of(fd);
  if (file) {
    shadow_path(path, file->name);
    int shadow = open(path, O_CREAT | O_WRONLY, 0600);
    if (shadow < 0) abort();
    for (struct change *change = file->first, *next; change; change = next) {
      next = change->next;
      if (change->truncates) {
        if (REAL(ftruncate)(shadow, change->at)) abort();
      } else if (REAL(pwrite)(shadow, change->bytes, change->length, change->at) != (ssize_t)change->length) {
        abort();
      }
      free(change);
    }
    file->first = NULL;
    file->last = &file->first;
    close(shadow);
  }
  pthread_mutex_unlock(&lock);
}

ssize_t write(int fd, const void *bytes, size_t length) {
  WRITE_MAY_FAIL(fd)
  off_t at = lseek(fd, 0, SEEK_CUR);
  ssize_t wrote = REAL(write)(fd, bytes, length);
  if (wrote > 0 && at >= 0) remember(fd, at, bytes, wrote, 0);
  return wrote;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
  WRITE_MAY_FAIL(fd)
  ssize_t wrote = REAL(pwrite)(fd, bytes, length, at);
  if (wrote > 0) remember(fd, at, bytes, wrote, 0);
  return wrote;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
  WRITE_MAY_FAIL(fd)
  ssize_t wrote = REAL(pwrite64)(fd, bytes, length, at);
  if (wrote > 0) remember(fd, at, bytes, wrote, 0);
  return wrote;
}

int ftruncate(int fd, off_t length) {
  int failed = REAL(ftruncate)(fd, length);
  if (!failed) remember(fd, length, NULL, 0, 1);
  return failed;
}

int ftruncate64(int fd, off64_t length) {
  int failed = REAL(ftruncate64)(fd, length);
  if (!failed) remember(fd, length, NULL, 0, 1);
  return failed;
}

/* Changes that others make while the disk is busy are carried over too: a disk may write early. */
int fsync(int fd) {
  SYNC_MAY_FAIL(fd)
  if (control) usleep(1000 * __atomic_load_n(&control[DELAY], __ATOMIC_SEQ_CST));
  int failed = REAL(fsync)(fd);
  if (!failed) carry_over(fd);
  return failed;
}

int fdatasync(int fd) {
  SYNC_MAY_FAIL(fd)
  if (control) usleep(1000 * __atomic_load_n(&control[DELAY], __ATOMIC_SEQ_CST));
  int failed = REAL(fdatasync)(fd);
  if (!failed) carry_over(fd);
  return failed;
}

int unlink(const char *path) {
  int failed = REAL(unlink)(path);
  const char *name = watched(path);
  if (!failed && name) {
    char shadow[PATH_MAX];
    shadow_path(shadow, name);
    REAL(unlink)(shadow);
    pthread_mutex_lock(&lock);
    for (struct file *file = files; file; file = file->next)
      if (!strcmp(file->name, name)) forget_all(file);
    pthread_mutex_unlock(&lock);
  }
  return failed;
}
