/* Writing files that are complete or absent. */
#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A process that died may have left some of these names behind; beyond this many the directory
 * is not ours to clean up. */
#define NAME_ATTEMPTS 100

struct moe_int_writer {
    int fd;
    char *target; /* what the caller named, symbolic links resolved */
    char *beside; /* what is being written; NULL: the target itself, a device */
    const moe_log *log;
};

static moe_status writer_fail(const moe_int_writer *writer, const char *action) {
    return moe_fail(writer->log, MOE_E_IO, "%s: cannot %s: %s", writer->target, action,
                    strerror(errno));
}

/* Opens a new file in the target's directory: rename works only within one file system. */
static moe_status open_beside(moe_int_writer *writer) {
    size_t size = strlen(writer->target) + 48;
    writer->beside = malloc(size);
    if (!writer->beside)
        return moe_fail(writer->log, MOE_E_NOMEM, "%s: no memory to write it", writer->target);
    for (int attempt = 0; attempt < NAME_ATTEMPTS; attempt++) {
        snprintf(writer->beside, size, "%s.part-%ld-%d", writer->target, (long)getpid(), attempt);
        writer->fd = open(writer->beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (writer->fd >= 0)
            return MOE_OK;
        if (errno != EEXIST)
            break;
    }
    free(writer->beside);
    writer->beside = NULL;
    return writer_fail(writer, "create a file beside it");
}

/* Renaming over a device would replace it, so it is written directly. */
static moe_status open_target(moe_int_writer *writer) {
    struct stat info;
    if (stat(writer->target, &info) != 0 || S_ISREG(info.st_mode))
        return open_beside(writer);
    if (S_ISDIR(info.st_mode)) {
        errno = EISDIR;
        return writer_fail(writer, "write");
    }
    writer->fd = open(writer->target, O_WRONLY | O_CLOEXEC);
    return writer->fd >= 0 ? MOE_OK : writer_fail(writer, "open for writing");
}

moe_status moe_int_writer_open(const char *path, const moe_log *log, moe_int_writer **ret) {
    moe_int_writer *writer = calloc(1, sizeof(*writer));
    if (!writer)
        return moe_fail(log, MOE_E_NOMEM, "%s: no memory to write it", path);
    writer->fd = -1;
    writer->log = log;
    writer->target = realpath(path, NULL);
    if (!writer->target) /* does not exist yet */
        writer->target = strdup(path);
    moe_status status = writer->target
                            ? open_target(writer)
                            : moe_fail(log, MOE_E_NOMEM, "%s: no memory to write it", path);
    if (status != MOE_OK) {
        moe_int_writer_discard(&writer);
        return status;
    }
    *ret = writer;
    return MOE_OK;
}

moe_status moe_int_writer_put(moe_int_writer *writer, const void *data, size_t size) {
    const char *next = data;
    while (size > 0) {
        ssize_t n = write(writer->fd, next, size < SSIZE_MAX ? size : SSIZE_MAX);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return writer_fail(writer, "write");
        next += n;
        size -= (size_t)n;
    }
    return MOE_OK;
}

/* close() also reports errors that the file system had put off. */
static moe_status close_file(moe_int_writer *writer) {
    int fd = writer->fd;
    writer->fd = -1;
    return close(fd) == 0 ? MOE_OK : writer_fail(writer, "close");
}

moe_status moe_int_writer_commit(moe_int_writer **writer_ref) {
    moe_int_writer *writer = *writer_ref;
    moe_status status = MOE_OK;
    /* Without this a crash soon after the rename could leave an empty file under the name. */
    if (writer->beside && fsync(writer->fd) != 0)
        status = writer_fail(writer, "write");
    if (status == MOE_OK)
        status = close_file(writer);
    if (status == MOE_OK && writer->beside) {
        if (rename(writer->beside, writer->target) != 0) {
            status = writer_fail(writer, "rename the finished file to it");
        } else {
            free(writer->beside);
            writer->beside = NULL;
        }
    }
    moe_int_writer_discard(writer_ref);
    return status;
}

void moe_int_writer_discard(moe_int_writer **writer_ref) {
    moe_int_writer *writer = *writer_ref;
    if (!writer)
        return;
    if (writer->fd >= 0)
        close(writer->fd);
    if (writer->beside)
        unlink(writer->beside);
    free(writer->beside);
    free(writer->target);
    free(writer);
    *writer_ref = NULL;
}

moe_status moe_int_file_write(const char *path, const void *data, size_t size, const moe_log *log) {
    moe_int_writer *writer = NULL;
    moe_status status = moe_int_writer_open(path, log, &writer);
    if (status != MOE_OK)
        return status;
    status = moe_int_writer_put(writer, data, size);
    if (status == MOE_OK)
        return moe_int_writer_commit(&writer);
    moe_int_writer_discard(&writer);
    return status;
}

moe_status moe_int_folder_make(const char *path, const moe_log *log) {
    struct stat seen;
    if (mkdir(path, 0777) == 0 || (errno == EEXIST && !stat(path, &seen) && S_ISDIR(seen.st_mode)))
        return MOE_OK;
    return moe_fail(log, MOE_E_IO, "%s: no folder can be made there: %s", path, strerror(errno));
}
