#define _GNU_SOURCE /* pipe2 */
#include "backend/isolate/process.h"
#include "core/clock.h"
#include "core/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- start ---- */

/* The worker's ends, above every descriptor that they become in it. */
typedef struct far_ends {
    int calls, side, output;
} far_ends;

static void close_one(int *file) {
    if (*file >= 0)
        close(*file);
    *file = -1;
}

static int move_up(int file) {
    int moved = file < 0 ? -1 : fcntl(file, F_DUPFD_CLOEXEC, 16);
    close_one(&file);
    return moved;
}

static void make_channels(moe_int_process *p, far_ends *far) {
    int calls[2] = {-1, -1}, side[2] = {-1, -1}, output[2] = {-1, -1};
    bool complete = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, calls) == 0 &&
                    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, side) == 0 &&
                    pipe2(output, O_CLOEXEC) == 0;
    p->calls = move_up(calls[0]); /* where standard error is closed, it could be in its place */
    p->side = move_up(side[0]);
    p->output = move_up(output[0]);
    *far = (far_ends){move_up(calls[1]), move_up(side[1]), move_up(output[1])};
    if (complete)
        fcntl(p->output, F_SETFL, O_NONBLOCK);
}

/* Standard input empty, output and error into the pipe, the channels behind them. */
static int set_files(posix_spawn_file_actions_t *files, const far_ends *far) {
    return posix_spawn_file_actions_addopen(files, 0, "/dev/null", O_RDONLY, 0) ||
           posix_spawn_file_actions_adddup2(files, far->output, 1) ||
           posix_spawn_file_actions_adddup2(files, far->output, 2) ||
           posix_spawn_file_actions_adddup2(files, far->calls, MOE_INT_WIRE_CALLS) ||
           posix_spawn_file_actions_adddup2(files, far->side, MOE_INT_WIRE_SIDE);
}

/* A group of its own, and no signal blocked or ignored because the judge's process does so. */
static int set_attributes(posix_spawnattr_t *attr) {
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    return posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF |
                                              POSIX_SPAWN_SETSIGMASK) ||
           posix_spawnattr_setpgroup(attr, 0) || posix_spawnattr_setsigdefault(attr, &all) ||
           posix_spawnattr_setsigmask(attr, &none);
}

static int spawn(const char *program, const far_ends *far, pid_t *ret) {
    char *const arguments[] = {(char *)"moeref-worker", (char *)"serve", NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    if (posix_spawn_file_actions_init(&files))
        return -1;
    int failed = posix_spawnattr_init(&attr);
    if (!failed) {
        failed = set_files(&files, far) || set_attributes(&attr) ||
                 posix_spawn(ret, program, &files, &attr, arguments, environ);
        posix_spawnattr_destroy(&attr);
    }
    posix_spawn_file_actions_destroy(&files);
    return failed;
}

moe_status moe_int_process_start(const char *program, moe_int_process *ret) {
    moe_int_process p = {.pid = 0};
    far_ends far;
    make_channels(&p, &far);
    bool complete = far.calls >= 0 && far.side >= 0 && far.output >= 0;
    bool started = complete && spawn(program, &far, &p.pid) == 0;
    close_one(&far.calls);
    close_one(&far.side);
    close_one(&far.output);
    if (!started) {
        moe_int_process_close(&p);
        return MOE_E_IO;
    }
    *ret = p;
    return MOE_OK;
}

/* ---- packets ---- */

bool moe_int_process_send(int channel, const moe_int_request *request, int file) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.room = {0}};
    struct iovec part = {(void *)request, sizeof *request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (file >= 0) {
        message.msg_control = control.room;
        message.msg_controllen = sizeof control.room;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof file);
        memcpy(CMSG_DATA(header), &file, sizeof file);
    }
    ssize_t sent;
    do
        sent = sendmsg(channel, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)sizeof *request;
}

/* Descriptors that come along are closed by the kernel: there is no room for them. An empty packet
 * looks like the end, but nobody has hung up. */
static moe_int_event take_packet(int channel, bool is_open, moe_int_reply *ret) {
    ssize_t got;
    do
        got = recv(channel, ret, sizeof *ret, MSG_DONTWAIT | MSG_TRUNC);
    while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN)
        return MOE_INT_EVENT_NONE;
    if (got < 0 || (got == 0 && !is_open))
        return MOE_INT_EVENT_END;
    if (got != (ssize_t)sizeof *ret)
        return MOE_INT_EVENT_WRONG;
    moe_int_clean_text(ret->text, sizeof ret->text);
    return MOE_INT_EVENT_PACKET;
}

/* Leaves it a zombie, so that its number stays its own until its group is dead. */
static bool has_ended(const moe_int_process *p) {
    siginfo_t info = {.si_pid = 0};
    return waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid;
}

moe_int_event moe_int_process_wait(moe_int_process *p, int ms, moe_int_reply *ret) {
    struct pollfd files[] = {{.fd = p->calls, .events = POLLIN},
                             {.fd = p->output, .events = POLLIN}};
    if (poll(files, 2, ms) > 0) {
        if (files[1].revents & POLLIN)
            return MOE_INT_EVENT_OUTPUT;
        if (files[1].revents)
            close_one(&p->output);
        if (!files[0].revents)
            return MOE_INT_EVENT_NONE;
        return take_packet(p->calls, !(files[0].revents & POLLHUP), ret);
    }
    /* Its channel may live on in a process that it started. */
    return has_ended(p) ? MOE_INT_EVENT_END : MOE_INT_EVENT_NONE;
}

bool moe_int_process_receive(int channel, int ms, moe_int_reply *ret) {
    struct pollfd file = {.fd = channel, .events = POLLIN};
    return poll(&file, 1, ms) > 0 && take_packet(channel, true, ret) == MOE_INT_EVENT_PACKET;
}

/* ---- end ---- */

void moe_int_process_stop(moe_int_process *p, int patience_ms, bool *ret_killed) {
    const double until = moe_int_now_us() + 1e3 * patience_ms;
    bool ended;
    while (!(ended = has_ended(p)) && moe_int_now_us() < until)
        poll(NULL, 0, 1);
    *ret_killed = !ended;
    kill(-p->pid, SIGKILL); /* what it has started goes along */
    kill(p->pid, SIGKILL);  /* and it itself, should it have left its group */
    while (waitpid(p->pid, &p->ending, 0) < 0 && errno == EINTR)
        ;
    p->pid = 0;
}

void moe_int_process_close(moe_int_process *p) {
    close_one(&p->calls);
    close_one(&p->side);
    close_one(&p->output);
}

void moe_int_process_ending(const moe_int_process *p, char *ret, size_t size) {
    static const struct {
        int number;
        const char *name;
    } signals[] = {{SIGSEGV, "SIGSEGV"},
                   {SIGABRT, "SIGABRT (abort, a broken heap, or an exception that nobody caught)"},
                   {SIGBUS, "SIGBUS"},
                   {SIGFPE, "SIGFPE"},
                   {SIGILL, "SIGILL"},
                   {SIGKILL, "SIGKILL (by itself, or the system for lack of memory)"},
                   {SIGTERM, "SIGTERM"},
                   {SIGPIPE, "SIGPIPE"},
                   {SIGTRAP, "SIGTRAP"},
                   {SIGHUP, "SIGHUP"},
                   {SIGINT, "SIGINT"},
                   {SIGALRM, "SIGALRM"}};
    if (WIFEXITED(p->ending)) {
        snprintf(ret, size, "exited with code %d", WEXITSTATUS(p->ending));
        return;
    }
    const int number = WTERMSIG(p->ending);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        if (signals[i].number == number) {
            snprintf(ret, size, "crashed: %s", signals[i].name);
            return;
        }
    }
    snprintf(ret, size, "crashed: signal %d", number);
}
