/* The worker's side: one plug-in, one device, its layers; requests come in, slots run, replies go
 * out. A second thread serves `board`, and ends the process when the judge has ended. */
#define _GNU_SOURCE
#include "backend/isolate/memory.h"
#include "backend/plugin/calls.h"
#include "backend/plugin/load.h"
#include "moeref/isolation.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct hosted_layer {
    void *plugged; /* NULL: this number is free */
    moe_int_shared params, input;
    moe_plan given;         /* of the input; the plug-in may keep its address */
    const moe_plan *chosen; /* as routing told it last */
} hosted_layer;

typedef struct host {
    pid_t self;
    uint32_t number; /* of the request that is being served */
    moe_int_entry entry;
    moe_int_caller caller;
    moe_log log;
    char variant[MOE_INT_WIRE_TEXT];
    void *device;
    hosted_layer layer[MOE_INT_WIRE_LAYERS];
    moe_int_shared scratch; /* for results */
} host;

/* ---- packets ---- */

/* A copy of this process that a plug-in made by fork has nothing to say. */
static void send_reply(const host *h, int channel, const moe_int_reply *reply) {
    if (getpid() != h->self)
        _exit(0);
    while (send(channel, reply, sizeof *reply, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

static void send_log(void *user, moe_log_level level, const char *message) {
    const host *h = user;
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

/* ---- slots ---- */

static hosted_layer *layer_of(host *h, const moe_int_request *q) {
    return &h->layer[q->layer];
}

static void tell_entry(const host *h, moe_int_reply *r) {
    const moe_plugin *p = h->entry.plugin;
    r->entry.accepted = h->entry.accepted;
    snprintf(r->entry.reason, sizeof r->entry.reason, "%s", h->entry.reason);
    if (!p)
        return;
    r->entry.priority = p->priority;
    r->entry.abi = p->abi;
    snprintf(r->entry.name, sizeof r->entry.name, "%s", p->name);
    snprintf(r->entry.brief, sizeof r->entry.brief, "%s", h->entry.brief);
    r->entry.optional = (p->routing ? 1u << MOE_INT_HAS_routing : 0) |
                        (p->timings ? 1u << MOE_INT_HAS_timings : 0) |
                        (p->memory ? 1u << MOE_INT_HAS_memory : 0) |
                        (p->roofline ? 1u << MOE_INT_HAS_roofline : 0) |
                        (p->abi >= 2 && p->board ? 1u << MOE_INT_HAS_board : 0) |
                        (p->abi >= 4 && p->arithmetic ? 1u << MOE_INT_HAS_arithmetic : 0);
}

static moe_status do_load(host *h, const moe_int_request *q, moe_int_reply *r) {
    moe_status status = moe_int_entry_open(q->path, &h->entry);
    if (status)
        return status;
    h->caller.plugin = h->entry.plugin;
    tell_entry(h, r);
    return h->entry.status;
}

static moe_status do_probe(host *h, moe_int_reply *r) {
    moe_int_entry_probe(&h->entry);
    tell_entry(h, r);
    return h->entry.status;
}

static moe_status do_open(host *h, const moe_int_request *q) {
    memcpy(h->variant, q->open.variant, sizeof h->variant);
    const moe_open_params params = {.threads = q->open.threads,
                                    .device_index = q->open.device_index,
                                    .variant = h->variant,
                                    .log = &h->log};
    return moe_int_call_open(&h->caller, &params, &h->device);
}

static moe_status do_prepare(host *h, const moe_int_request *q, int file) {
    hosted_layer *l = layer_of(h, q);
    moe_tensors params = {0};
    moe_int_shared_drop(&l->params);
    moe_status status = moe_int_shared_map(&l->params, file, (size_t)q->memory);
    if (status)
        return status;
    for (int id = 0; id < MOE_T_COUNT; id++)
        params.t[id] = moe_int_wire_tensor_view(&q->prepare.param[id], l->params.base);
    return moe_int_call_prepare(&h->caller, h->device, &q->prepare.desc, &q->prepare.use, &params,
                                &l->plugged);
}

static moe_status do_release(host *h, const moe_int_request *q) {
    hosted_layer *l = layer_of(h, q);
    moe_status status = moe_int_call_release(&h->caller, l->plugged);
    moe_int_shared_drop(&l->params);
    moe_int_shared_drop(&l->input);
    *l = (hosted_layer){.plugged = NULL};
    return status;
}

/* The former input stays mapped until the plug-in has been given the new one. */
static moe_status do_set_input(host *h, const moe_int_request *q, int file) {
    hosted_layer *l = layer_of(h, q);
    moe_int_shared former = {.base = NULL};
    if (file >= 0) {
        former = l->input;
        l->input = (moe_int_shared){.file = -1};
        moe_status status = moe_int_shared_map(&l->input, file, (size_t)q->memory);
        if (status)
            return status;
    }
    moe_input input = {.tokens = q->input.tokens,
                       .X = moe_int_wire_tensor_view(&q->input.X, l->input.base),
                       .dO = moe_int_wire_tensor_view(&q->input.dO, l->input.base),
                       .seed = q->input.seed};
    if (q->input.plan.n_tokens) {
        l->given = moe_int_wire_plan_view(&q->input.plan, l->input.base);
        input.plan = &l->given;
    }
    moe_status status = moe_int_call_set_input(&h->caller, l->plugged, &input);
    moe_int_shared_drop(&former);
    return status;
}

/* Room for results stays mapped until there is a larger one. */
static moe_status take_scratch(host *h, const moe_int_request *q, int file) {
    return file < 0 ? MOE_OK : moe_int_shared_map(&h->scratch, file, (size_t)q->memory);
}

static moe_status do_fetch(host *h, const moe_int_request *q, int file) {
    moe_status status = take_scratch(h, q, file);
    if (status)
        return status;
    moe_tensor dst = moe_int_wire_tensor_view(&q->fetch.dst, h->scratch.base);
    return moe_int_call_fetch(&h->caller, layer_of(h, q)->plugged, (moe_tensor_id)q->fetch.id,
                              &dst);
}

/* Ends with a fetch that breaks the contract. Its fault is told when that result is asked for: some
 * faults, as memory that was written beside a buffer, a plug-in is looked at for but once. */
static moe_status do_fetch_ahead(host *h, const moe_int_request *q, int file, moe_int_reply *r) {
    moe_status status = take_scratch(h, q, file);
    for (int64_t i = 0; !status && i < q->ahead.count; i++) {
        moe_tensor dst = moe_int_wire_tensor_view(&q->ahead.dst[i], h->scratch.base);
        r->ahead.status[i] = (int32_t)moe_int_call_fetch(&h->caller, layer_of(h, q)->plugged,
                                                         (moe_tensor_id)q->ahead.id[i], &dst);
        r->ahead.done = (int32_t)i + 1;
        memcpy(h->scratch.base, &(int64_t){i + 1}, sizeof(int64_t));
        if (h->caller.fault[0])
            break;
    }
    snprintf(r->ahead.fault, sizeof r->ahead.fault, "%s", h->caller.fault);
    h->caller.fault[0] = '\0';
    return status;
}

static moe_status do_routing(host *h, const moe_int_request *q, moe_int_reply *r) {
    hosted_layer *l = layer_of(h, q);
    moe_status status = moe_int_call_routing(&h->caller, l->plugged, &l->chosen);
    if (!status)
        r->plan = (moe_int_wire_plan){.n_tokens = l->chosen->n_tokens,
                                      .n_experts = l->chosen->n_experts,
                                      .n_pairs = l->chosen->n_pairs};
    return status;
}

static moe_status do_copy_plan(host *h, const moe_int_request *q, int file) {
    moe_status status = take_scratch(h, q, file);
    if (status)
        return status;
    moe_plan from = *layer_of(h, q)->chosen;
    moe_plan to = moe_int_wire_plan_view(&q->plan, h->scratch.base);
    from.n_tokens = to.n_tokens; /* the room that there is */
    from.n_experts = to.n_experts;
    from.n_pairs = to.n_pairs;
    moe_int_plan_copy_arrays(&from, &to);
    return MOE_OK;
}

static moe_status do_timings(host *h, const moe_int_request *q, moe_int_reply *r) {
    size_t count = 0;
    moe_status status = moe_int_call_timings(&h->caller, layer_of(h, q)->plugged, r->timings.cost,
                                             MOE_INT_WIRE_COSTS, &count);
    r->timings.count = (int64_t)count;
    return status;
}

static moe_status run_slot(host *h, const moe_int_request *q, int file, moe_int_reply *r) {
    switch ((moe_int_slot)q->slot) {
    case MOE_INT_SLOT_LOAD:
        return do_load(h, q, r);
    case MOE_INT_SLOT_PROBE:
        return do_probe(h, r);
    case MOE_INT_SLOT_OPEN:
        return do_open(h, q);
    case MOE_INT_SLOT_CLOSE:
        return moe_int_call_close(&h->caller, h->device);
    case MOE_INT_SLOT_SUPPORTS:
        return moe_int_call_supports(&h->caller, h->device, &q->prepare.desc, &q->prepare.use,
                                     &r->support);
    case MOE_INT_SLOT_ARITHMETIC:
        return moe_int_call_arithmetic(&h->caller, h->device, &q->prepare.desc, &q->prepare.use,
                                       r->arithmetic, sizeof r->arithmetic);
    case MOE_INT_SLOT_PREPARE:
        return do_prepare(h, q, file);
    case MOE_INT_SLOT_RELEASE:
        return do_release(h, q);
    case MOE_INT_SLOT_SET_INPUT:
        return do_set_input(h, q, file);
    case MOE_INT_SLOT_FORWARD:
        return moe_int_call_forward(&h->caller, layer_of(h, q)->plugged);
    case MOE_INT_SLOT_BACKWARD:
        return moe_int_call_backward(&h->caller, layer_of(h, q)->plugged);
    case MOE_INT_SLOT_FETCH:
        return do_fetch(h, q, file);
    case MOE_INT_SLOT_FETCH_AHEAD:
        return do_fetch_ahead(h, q, file, r);
    case MOE_INT_SLOT_ROUTING:
        return do_routing(h, q, r);
    case MOE_INT_SLOT_COPY_PLAN:
        return do_copy_plan(h, q, file);
    case MOE_INT_SLOT_TIMINGS:
        return do_timings(h, q, r);
    case MOE_INT_SLOT_MEMORY:
        return moe_int_call_memory(&h->caller, layer_of(h, q)->plugged, &r->memory);
    case MOE_INT_SLOT_ROOFLINE:
        return moe_int_call_roofline(&h->caller, h->device, &r->roofline);
    case MOE_INT_SLOT_TRIM:
        malloc_trim(0);
        return MOE_OK;
    case MOE_INT_SLOT_BOARD: /* comes by the side channel */
    case MOE_INT_SLOT_COUNT:
        break;
    }
    return MOE_E_INVALID;
}

static void serve(host *h) {
    moe_int_request request;
    int file;
    while (receive(MOE_INT_WIRE_CALLS, &request, &file)) {
        moe_int_reply reply = {.number = request.number, .kind = MOE_INT_REPLY_DONE};
        h->number = request.number;
        h->caller.fault[0] = '\0';
        reply.status = (int32_t)run_slot(h, &request, file, &reply);
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
    const host *h = user;
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
    static host h;
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
