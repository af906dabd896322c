/* A bad disk: makes chosen reads, opens, syncs and locks fail. Loaded with LD_PRELOAD, and configured by the environment:
 *
 * BAD_READS         TEXT:FROM-TO,...  reads of these bytes fail, in files whose path contains TEXT
 * BAD_OPENS         TEXT,...          files whose path contains TEXT cannot be opened
 * BAD_FOLDER_SYNCS  ERRNO             folders cannot be synced
 * BAD_FOLDER_LOCKS  ERRNO             folders cannot be locked
 * BAD_SYNC_KILLS    N                 the process is killed in place of its Nth sync of a file or folder
 * BAD_DATA_SYNCS    PATH              if this file exists, a sync of data removes it and fails, and what was written to
 *                                     the file since its last sync becomes zeros
 * BAD_DATA_SYNC_CUTS ANY             ... is cut off instead
 * BAD_DATA_SYNC_MS  TIME              time that such a sync takes, in milliseconds
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* How many of `len` bytes at `offset` precede the first bad one. */
static size_t good(int fd, size_t len, off_t offset)
{
    const char *bad = getenv("BAD_READS");
    if (bad == NULL || len == 0)
        return len;
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t path_len = readlink(link, path, sizeof path - 1);
    if (path_len < 0)
        return len;
    path[path_len] = 0;
    while (*bad != 0) {
        const char *end = strchrnul(bad, ','), *colon = memchr(bad, ':', end - bad);
        if (colon == NULL)
            abort();
        char text[256] = {0};
        memcpy(text, bad, colon - bad);
        char *rest;
        off_t from = strtoll(colon + 1, &rest, 10), to = strtoll(rest + 1, NULL, 10);
        if (strstr(path, text) != NULL && offset < to && from < offset + (off_t)len)
            len = from <= offset ? 0 : from - offset;
        if (len == 0)
            return 0;
        bad = *end == 0 ? end : end + 1;
    }
    return len;
}

static ssize_t failed(void)
{
    errno = EIO;
    return -1;
}

ssize_t pread64(int fd, void *bytes, size_t len, off64_t offset)
{
    size_t have = good(fd, len, offset);
    return have == 0 && len != 0 ? failed() : NEXT(pread64)(fd, bytes, have, offset);
}

ssize_t pread(int fd, void *bytes, size_t len, off_t offset)
{
    return pread64(fd, bytes, len, offset);
}

ssize_t read(int fd, void *bytes, size_t len)
{
    off_t offset = getenv("BAD_READS") == NULL ? -1 : lseek(fd, 0, SEEK_CUR);
    size_t have = offset < 0 ? len : good(fd, len, offset);
    return have == 0 && len != 0 ? failed() : NEXT(read)(fd, bytes, have);
}

ssize_t readv(int fd, const struct iovec *parts, int count)
{
    for (int part = 0; part < count; part++)
        if (parts[part].iov_len != 0)
            return read(fd, parts[part].iov_base, parts[part].iov_len);
    return 0;
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t len, unsigned flags)
{
    if (getenv("BAD_READS") != NULL) {
        errno = ENOSYS;
        return -1;
    }
    return NEXT(copy_file_range)(from, from_at, to, to_at, len, flags);
}

static int is_bad(const char *path)
{
    const char *bad = getenv("BAD_OPENS");
    while (bad != NULL && *bad != 0) {
        const char *end = strchrnul(bad, ',');
        char text[256] = {0};
        memcpy(text, bad, end - bad);
        if (strstr(path, text) != NULL) {
            errno = EACCES;
            return 1;
        }
        bad = *end == 0 ? end : end + 1;
    }
    return 0;
}

#define OPEN(name)                                         \
    int name(const char *path, int flags, ...)             \
    {                                                      \
        va_list more;                                      \
        va_start(more, flags);                             \
        mode_t mode = va_arg(more, mode_t);                \
        va_end(more);                                      \
        return is_bad(path) ? -1 : NEXT(name)(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

static int is_folder(int fd)
{
    struct stat file;
    return fstat(fd, &file) == 0 && S_ISDIR(file.st_mode);
}

int fsync(int fd)
{
    static int syncs;
    const char *kills = getenv("BAD_SYNC_KILLS");
    if (kills != NULL && ++syncs == atoi(kills))
        raise(SIGKILL);
    const char *bad = getenv("BAD_FOLDER_SYNCS");
    if (bad != NULL && is_folder(fd)) {
        errno = atoi(bad);
        return -1;
    }
    return NEXT(fsync)(fd);
}

/* Files whose data was synced, and their lengths then. Only one thread syncs data. */
static struct {
    ino_t file;
    off_t len;
} synced[1024];

int fdatasync(int fd)
{
    const char *bad = getenv("BAD_DATA_SYNCS");
    struct stat file;
    if (bad == NULL || fstat(fd, &file) != 0)
        return NEXT(fdatasync)(fd);
    size_t at = 0;
    while (synced[at].file != 0 && synced[at].file != file.st_ino && at < 1023)
        at++;
    if (synced[at].file != file.st_ino)
        synced[at].len = 0;
    synced[at].file = file.st_ino;
    if (0 < synced[at].len && unlink(bad) == 0) {
        static const char zeros[4096];
        off_t from = synced[at].len;
        const char *time = getenv("BAD_DATA_SYNC_MS");
        if (time != NULL)
            usleep(1000 * atoi(time));
        if (getenv("BAD_DATA_SYNC_CUTS") != NULL && ftruncate(fd, from) != 0)
            abort();
        fstat(fd, &file);
        while (from < file.st_size) {
            off_t left = file.st_size - from;
            ssize_t len = pwrite(fd, zeros, left < 4096 ? left : 4096, from);
            if (len <= 0)
                abort();
            from += len;
        }
        return failed();
    }
    int result = NEXT(fdatasync)(fd);
    if (result == 0)
        synced[at].len = file.st_size;
    return result;
}

int flock(int fd, int operation)
{
    const char *bad = getenv("BAD_FOLDER_LOCKS");
    if (bad != NULL && is_folder(fd)) {
        errno = atoi(bad);
        return -1;
    }
    return NEXT(flock)(fd, operation);
}
