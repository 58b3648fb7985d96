/* Reading and mapping whole files. */
#define _GNU_SOURCE /* tee */
#include "core/file.h"
#include "core/open_read.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

moe_status moe_int_file_map(const char *path, const moe_log *log, moe_int_map *ret) {
    struct stat info;
    moe_int_map map = {0};
    moe_status status = MOE_OK;
    /* O_NONBLOCK: opening a pipe must fail below, not wait for a writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return moe_fail(log, MOE_E_IO, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(fd, &info) != 0) {
        status = moe_fail(log, MOE_E_IO, "%s: cannot examine: %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        status = moe_fail(log, MOE_E_IO, "%s: not a regular file", path);
    } else if (info.st_size > 0) {
        map.size = (size_t)info.st_size;
        void *data = mmap(NULL, map.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            status = moe_fail(log, errno == ENOMEM ? MOE_E_NOMEM : MOE_E_IO,
                              "%s: cannot map %zu bytes: %s", path, map.size, strerror(errno));
        else
            map.data = data;
    }
    close(fd);
    if (status == MOE_OK)
        *ret = map;
    return status;
}

void moe_int_file_forget(const moe_int_map *map) {
    if (map->data)
        madvise((void *)map->data, map->size, MADV_DONTNEED);
}

void moe_int_file_unmap(moe_int_map *map) {
    if (map->data)
        munmap((void *)map->data, map->size);
    *map = (moe_int_map){0};
}

/* Reads until the end or until `capacity` bytes; returns the count, or -1 with errno. */
static ssize_t read_up_to(int fd, char *buffer, size_t capacity) {
    size_t used = 0;
    while (used < capacity) {
        ssize_t n = read(fd, buffer + used, capacity - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        used += (size_t)n;
    }
    return (ssize_t)used;
}

/* Grows a buffer until the file ends, since a pipe does not tell its size. */
static moe_status read_all(int fd, const char *path, size_t limit, const moe_log *log,
                           char **ret_text, size_t *ret_size) {
    size_t capacity = 4096, used = 0;
    char *text = malloc(capacity);
    while (text) {
        ssize_t n = read_up_to(fd, text + used, capacity - used);
        if (n < 0) {
            free(text);
            return moe_fail(log, MOE_E_IO, "%s: cannot read: %s", path, strerror(errno));
        }
        used += (size_t)n;
        if (used > limit) {
            free(text);
            return moe_fail(log, MOE_E_FORMAT, "%s: longer than the %zu bytes that are allowed",
                            path, limit);
        }
        if (used < capacity) {
            text[used] = '\0';
            *ret_text = text;
            *ret_size = used;
            return MOE_OK;
        }
        capacity *= 2;
        char *larger = realloc(text, capacity);
        if (!larger)
            free(text);
        text = larger;
    }
    return moe_fail(log, MOE_E_NOMEM, "%s: no memory to read it", path);
}

moe_status moe_int_file_read(const char *path, size_t limit, const moe_log *log, char **ret_text,
                             size_t *ret_size) {
    int fd = moe_int_open_to_read(path);
    if (fd < 0)
        return moe_fail(log, MOE_E_IO, "%s: cannot open: %s", path,
                        errno == ETIMEDOUT ? "a pipe that nobody writes into" : strerror(errno));
    moe_status status = read_all(fd, path, limit, log, ret_text, ret_size);
    close(fd);
    return status;
}
