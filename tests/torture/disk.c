/* The disk and the clock that an engine under torture sees. Loaded in front of the
   system's by LD_PRELOAD, so that the engine is the real, unmodified binary.

   TORTURE_STORE names the database: its file, `-wal`, `-journal` and `-shm`, and the
   folder they lie in. TORTURE_DIAL is a file of numbers that the test turns while the
   engine runs (`enum dial`). TORTURE_JOURNAL, where it is set, gets every change of the
   database, its WAL and its rollback journal in the order they were made, so that the
   test can work out what a loss of power would have left: nothing is on disk before a
   sync has returned. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Numbers in the file of dials, 8 bytes each. */
enum dial {
    CALLS,        /* counted here: writes, truncations and syncs of those files so far */
    FAIL_FIRST,   /* the first of them that fails, from 1; 0: none */
    FAIL_LAST,    /* the last of them that fails */
    FAIL_KINDS,   /* which kinds fail: 1 write, 2 truncate, 4 sync */
    FAIL_ERRNO,   /* with what */
    FAILED,       /* counted here: calls that were made to fail */
    LIE,          /* 1: a sync is said to have been done, and is not */
    ROOM,         /* bytes by which files may still grow, plus 1; 0: any number */
    CLOCK_OFFSET, /* seconds that CLOCK_REALTIME is ahead */
    DIALS
};

enum kind { WRITE = 1, TRUNCATE = 2, SYNC = 4 };

/* What a file is, and its number in the journal. */
enum file { DATABASE, WAL, ROLLBACK, SHARED, FOLDER, OTHER };

/* Before each change in the journal; a write's bytes follow. */
struct record {
    uint8_t what; /* w write, t truncate, s sync, c create, u unlink, d sync of the folder */
    uint8_t file;
    uint8_t unused[6];
    uint64_t offset, length;
};

#define DESCRIPTORS 4096
static uint8_t file_of[DESCRIPTORS]; /* 0: not one of ours, else `enum file` + 1 */

static char database[4096], folder[4096];
static volatile int64_t *dials;
static int64_t no_dials[DIALS];
static int journal = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(&real_##name, #name))
static void *real_open64, *real_openat64, *real_close, *real_write, *real_pwrite64,
    *real_ftruncate64, *real_fsync, *real_fdatasync, *real_unlink, *real_clock_gettime;

static void *real(void **kept, const char *name) {
    if (*kept == NULL) {
        *kept = dlsym(RTLD_NEXT, name);
    }
    return *kept;
}

__attribute__((constructor)) static void begin(void) {
    const char *store = getenv("TORTURE_STORE"), *dial = getenv("TORTURE_DIAL");
    const char *changes = getenv("TORTURE_JOURNAL");
    dials = no_dials;
    if (store == NULL || strlen(store) >= sizeof database) {
        return;
    }
    strcpy(database, store);
    strcpy(folder, store);
    char *end = strrchr(folder, '/');
    if (end != NULL) {
        *end = 0;
    }
    if (dial != NULL) {
        int fd = REAL(open64)(dial, O_RDWR | O_CLOEXEC);
        void *at = mmap(NULL, sizeof no_dials, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (fd < 0 || at == MAP_FAILED) {
            abort();
        }
        dials = at;
    }
    if (changes != NULL) {
        journal = REAL(open64)(changes, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (journal < 0) {
            abort();
        }
    }
}

static enum file of_path(const char *path) {
    size_t length = strlen(database);
    if (length == 0 || path == NULL) {
        return OTHER;
    }
    if (strcmp(path, folder) == 0) {
        return FOLDER;
    }
    if (strncmp(path, database, length) != 0) {
        return OTHER;
    }
    const char *rest = path + length;
    return *rest == 0                     ? DATABASE
           : strcmp(rest, "-wal") == 0     ? WAL
           : strcmp(rest, "-journal") == 0 ? ROLLBACK
           : strcmp(rest, "-shm") == 0     ? SHARED
                                           : OTHER;
}

static enum file of_descriptor(int fd) {
    if (fd < 0 || fd >= DESCRIPTORS || file_of[fd] == 0) {
        return OTHER;
    }
    return file_of[fd] - 1;
}

static void all_of(int fd, const void *bytes, size_t length) {
    while (length > 0) {
        ssize_t done = REAL(write)(fd, bytes, length);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            abort(); /* A journal with a hole would prove nothing. */
        }
        bytes = (const char *)bytes + done;
        length -= done;
    }
}

/* Under the lock. */
static void note(uint8_t what, enum file file, uint64_t offset, const void *bytes, uint64_t length) {
    if (journal < 0 || file == SHARED || (file == FOLDER && what != 'd')) {
        return;
    }
    struct record record = {.what = what, .file = file, .offset = offset, .length = length};
    all_of(journal, &record, sizeof record);
    if (bytes != NULL) {
        all_of(journal, bytes, length);
    }
}

/* Under the lock: is this call one that fails? */
static int fails(enum kind kind) {
    int64_t call = ++dials[CALLS];
    if (dials[FAIL_FIRST] == 0 || call < dials[FAIL_FIRST] || call > dials[FAIL_LAST] ||
        (dials[FAIL_KINDS] & kind) == 0) {
        return 0;
    }
    dials[FAILED]++;
    errno = (int)dials[FAIL_ERRNO];
    return 1;
}

static int opened(int fd, const char *path, int is_new) {
    enum file file = of_path(path);
    if (fd < 0 || fd >= DESCRIPTORS) {
        if (fd >= 0 && file != OTHER) {
            abort();
        }
        return fd;
    }
    file_of[fd] = file == OTHER ? 0 : file + 1;
    if (file != OTHER && is_new) {
        pthread_mutex_lock(&lock);
        note('c', file, 0, NULL, 0);
        pthread_mutex_unlock(&lock);
    }
    return fd;
}

#define MODE(flags, mode)                                                                          \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                         \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode = va_arg(rest, mode_t);                                                               \
        va_end(rest);                                                                              \
    }

int open64(const char *path, int flags, ...) {
    MODE(flags, mode)
    int is_new = (flags & O_CREAT) && of_path(path) != OTHER && access(path, F_OK) != 0;
    return opened(REAL(open64)(path, flags, mode), path, is_new);
}

int open(const char *path, int flags, ...) {
    MODE(flags, mode)
    return open64(path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    MODE(flags, mode)
    return opened(REAL(openat64)(at, path, flags, mode), path, 0);
}

int close(int fd) {
    if (fd >= 0 && fd < DESCRIPTORS) {
        file_of[fd] = 0;
    }
    return REAL(close)(fd);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    enum file file = of_descriptor(fd);
    if (file == OTHER) {
        return REAL(pwrite64)(fd, bytes, length, offset);
    }
    pthread_mutex_lock(&lock);
    ssize_t done = -1;
    struct stat before;
    int64_t growth = 0;
    if (dials[ROOM] > 0 && fstat(fd, &before) == 0 && offset + (off64_t)length > before.st_size) {
        growth = offset + (off64_t)length - before.st_size;
    }
    if (growth > 0 && growth > dials[ROOM] - 1) {
        dials[CALLS]++;
        dials[FAILED]++;
        /* A full disk takes the first part and refuses the rest. */
        if (length > 1 && dials[ROOM] > 1) {
            length = length > 512 ? 512 : length / 2;
            dials[ROOM] = 1;
            note('w', file, offset, bytes, length);
            done = REAL(pwrite64)(fd, bytes, length, offset);
        } else {
            errno = ENOSPC;
        }
    } else if (!fails(WRITE)) {
        if (growth > 0) {
            dials[ROOM] -= growth;
        }
        note('w', file, offset, bytes, length);
        done = REAL(pwrite64)(fd, bytes, length, offset);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    if (of_descriptor(fd) == OTHER) {
        return REAL(write)(fd, bytes, length);
    }
    ssize_t done = pwrite64(fd, bytes, length, lseek(fd, 0, SEEK_CUR));
    if (done > 0) {
        lseek(fd, done, SEEK_CUR);
    }
    return done;
}

int ftruncate64(int fd, off64_t length) {
    enum file file = of_descriptor(fd);
    if (file == OTHER) {
        return REAL(ftruncate64)(fd, length);
    }
    pthread_mutex_lock(&lock);
    int done = -1;
    if (!fails(TRUNCATE)) {
        note('t', file, length, NULL, 0);
        done = REAL(ftruncate64)(fd, length);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

/* What a sync takes on a disk whose power can go. It must take time: that is when most of
   what is not on disk yet is lost. */
static const struct timespec sync_time = {.tv_nsec = 500 * 1000};

/* Nothing is really synced: the engine dies by a signal, and what the system was told
   it still knows. What is durable is what the journal says. */
static int sync_of(int fd, enum file file) {
    (void)fd;
    if (journal >= 0) {
        nanosleep(&sync_time, NULL);
    }
    pthread_mutex_lock(&lock);
    int done = -1;
    if (!fails(SYNC)) {
        if (dials[LIE] == 0) {
            note(file == FOLDER ? 'd' : 's', file, 0, NULL, 0);
        }
        done = 0;
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int fsync(int fd) {
    enum file file = of_descriptor(fd);
    return file == OTHER ? REAL(fsync)(fd) : sync_of(fd, file);
}

int fdatasync(int fd) {
    enum file file = of_descriptor(fd);
    return file == OTHER ? REAL(fdatasync)(fd) : sync_of(fd, file);
}

int unlink(const char *path) {
    enum file file = of_path(path);
    if (file == OTHER) {
        return REAL(unlink)(path);
    }
    pthread_mutex_lock(&lock);
    note('u', file, 0, NULL, 0);
    int done = REAL(unlink)(path);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int done = REAL(clock_gettime)(clock, at);
    if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) && dials != NULL) {
        at->tv_sec += dials[CLOCK_OFFSET];
        if (at->tv_sec < 0) {
            at->tv_sec = 0;
        }
    }
    return done;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec precise;
    (void)zone;
    int done = clock_gettime(CLOCK_REALTIME, &precise);
    at->tv_sec = precise.tv_sec;
    at->tv_usec = precise.tv_nsec / 1000;
    return done;
}

time_t time(time_t *at) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (at != NULL) {
        *at = precise.tv_sec;
    }
    return precise.tv_sec;
}
