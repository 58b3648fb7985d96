/* The worker's side: requests come in, slots run (slots.c), replies go out. A second thread serves
 * `board`, and ends the process when the judge has ended. */
#define _GNU_SOURCE
#include "backend/isolate/host.h"
#include "moeref/isolation.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- packets ---- */

/* A copy of this process that a plug-in made by fork has nothing to say. */
static void send_reply(const moe_int_host *h, int channel, const moe_int_reply *reply) {
    if (getpid() != h->self)
        _exit(0);
    while (send(channel, reply, sizeof *reply, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

static void send_log(void *user, moe_log_level level, const char *message) {
    const moe_int_host *h = user;
    moe_int_reply reply = {.number = h->number, .kind = MOE_INT_REPLY_LOG, .status = (int)level};
    snprintf(reply.text, sizeof reply.text, "%s", message ? message : "");
    send_reply(h, MOE_INT_WIRE_CALLS, &reply);
}

/* false: the judge is gone. *ret_file is -1 where none came along. */
static bool receive(int channel, moe_int_request *ret, int *ret_file) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {ret, sizeof *ret};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.room,
                             .msg_controllen = sizeof control.room};
    ssize_t got;
    do
        got = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    *ret_file = -1;
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (got > 0 && header && header->cmsg_type == SCM_RIGHTS)
        memcpy(ret_file, CMSG_DATA(header), sizeof *ret_file);
    return got == (ssize_t)sizeof *ret;
}

static void serve(moe_int_host *h) {
    moe_int_request request;
    int file;
    while (receive(MOE_INT_WIRE_CALLS, &request, &file)) {
        moe_int_reply reply = {.number = request.number, .kind = MOE_INT_REPLY_DONE};
        h->number = request.number;
        h->caller.fault[0] = '\0';
        reply.status = (int32_t)moe_int_host_run(h, &request, file, &reply);
        reply.us = h->caller.us;
        snprintf(reply.text, sizeof reply.text, "%s", h->caller.fault);
        fflush(NULL); /* what a plug-in printed belongs to this call */
        send_reply(h, MOE_INT_WIRE_CALLS, &reply);
        if (request.slot == MOE_INT_SLOT_CLOSE)
            return;
    }
}

/* ---- the process ---- */

/* The judge's end closes the channel, however it ended; then nothing of the group that this process
 * began may go on, nor itself. Another group, where a plug-in has changed it, is not its to end. */
static void *serve_side(void *user) {
    const moe_int_host *h = user;
    moe_int_request request;
    int file;
    while (receive(MOE_INT_WIRE_SIDE, &request, &file)) {
        moe_int_reply reply = {.number = request.number, .kind = MOE_INT_REPLY_DONE};
        reply.status = (int32_t)moe_int_call_board(h->entry.plugin, h->device, &reply.board);
        send_reply(h, MOE_INT_WIRE_SIDE, &reply);
    }
    if (getpid() == h->self) {
        kill(-h->self, SIGKILL);
        kill(h->self, SIGKILL);
    }
    return NULL;
}

/* No core file of what is reported anyway; and where memory runs out, this is the process to end,
 * not the judge. */
static void lower_claims(void) {
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return;
    if (write(file, "1000", 4) != 4)
        errno = 0; /* then the system chooses by itself */
    close(file);
}

int moe_isolation_serve(void) {
    static moe_int_host h;
    pthread_t side;
    h.self = getpid();
    h.log = (moe_log){send_log, &h};
    lower_claims();
    fcntl(MOE_INT_WIRE_CALLS, F_SETFD, FD_CLOEXEC);
    fcntl(MOE_INT_WIRE_SIDE, F_SETFD, FD_CLOEXEC);
    if (pthread_create(&side, NULL, serve_side, &h))
        return 1;
    serve(&h);
    fflush(NULL);
    _exit(0); /* destructors of a plug-in that has been closed are nobody's */
}
