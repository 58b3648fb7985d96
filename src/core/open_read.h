/* Opening a file to read it through, which may be a pipe with a name. Whoever includes it defines
 * _GNU_SOURCE first. */
#ifndef MOE_CORE_OPEN_READ_H
#define MOE_CORE_OPEN_READ_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

/* How long a pipe that nobody has opened to write is waited for. */
enum { MOE_INT_WRITER_SECONDS = 3 };

/* Has somebody opened the pipe to write, or left something in it? tee() takes nothing out: it gives
 * 0 where there is no writer, and fails with EAGAIN where one has not written yet. */
static inline bool moe_int_has_writer(int pipe_end) {
    int copy[2];
    if (pipe2(copy, O_CLOEXEC | O_NONBLOCK) != 0)
        return true; /* not known: reading tells */
    const ssize_t there = tee(pipe_end, copy[1], 1, SPLICE_F_NONBLOCK);
    close(copy[0]);
    close(copy[1]);
    return there != 0;
}

/* A descriptor, or -1 with errno: ETIMEDOUT is a pipe into which nobody writes. */
static inline int moe_int_open_to_read(const char *path) {
    enum { TRIES_A_SECOND = 50 };
    struct stat info;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fd;
    bool written = fstat(fd, &info) != 0 || !S_ISFIFO(info.st_mode) || moe_int_has_writer(fd);
    for (int i = 0; !written && i < MOE_INT_WRITER_SECONDS * TRIES_A_SECOND; i++) {
        struct pollfd one = {.fd = fd, .events = POLLIN};
        /* A hangup is that of a writer who has come, written nothing and gone. */
        written = poll(&one, 1, 1000 / TRIES_A_SECOND) > 0 || moe_int_has_writer(fd);
    }
    if (written && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) == 0)
        return fd;
    const int error = written ? errno : ETIMEDOUT;
    close(fd);
    errno = error;
    return -1;
}

#endif
