/* The transport `nccl`: a thread and a GPU for each rank of one process, grouped sends and receives
 * between their memories.
 *
 * A rank meets the others on the host first, where they tell each other what they send: only then
 * is anything put on a stream, so that no GPU waits for a rank that does not come. Rows lie in host
 * memory before and after; the way between two GPUs is NCCL's. */
#include "nccl_calls.h"

#include "moeref/ep.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POLL_US = 20 };

typedef struct memory {
    char *data;
    size_t bytes;
} memory;

typedef struct peer {
    nccl_comm comm;
    cudaStream_t stream;
    memory out, in;
} peer;

typedef struct group {
    nccl_calls nccl;
    int32_t ranks;
    double limit_s;
    const moe_transport *host; /* where ranks meet */
    void *meeting;
    peer *peer; /* [ranks] */
    bool is_open;
} group;

/* The first failure is what all are told. */
static moe_status give_up(group *g, int32_t rank, int32_t phase, const char *what) {
    char why[200];
    snprintf(why, sizeof why, "nccl: rank %d in %s: %s", (int)rank, moe_ep_phase_name(phase), what);
    g->host->abandon(g->meeting, rank, why);
    return MOE_E_DEVICE;
}

static moe_status check_cuda(group *g, int32_t rank, int32_t phase, cudaError_t error) {
    return error == cudaSuccess ? MOE_OK : give_up(g, rank, phase, cudaGetErrorString(error));
}

static moe_status check_nccl(group *g, int32_t rank, int32_t phase, int result) {
    return result == NCCL_OK ? MOE_OK : give_up(g, rank, phase, g->nccl.error_string(result));
}

static cudaError_t reserve(memory *m, size_t bytes) {
    if (bytes <= m->bytes)
        return cudaSuccess;
    cudaFree(m->data);
    *m = (memory){0};
    const cudaError_t error = cudaMalloc((void **)&m->data, bytes);
    if (error == cudaSuccess)
        m->bytes = bytes;
    return error;
}

static int64_t total(const int64_t *bytes, int32_t ranks) {
    int64_t sum = 0;
    for (int32_t q = 0; q < ranks; q++)
        sum += bytes[q];
    return sum;
}

/* Everybody tells everybody how much is coming: it is what is expected, or nothing is sent. */
static moe_status meet(group *g, int32_t rank, const moe_exchange *what) {
    int64_t number[MOE_EP_MAX_RANKS], told[MOE_EP_MAX_RANKS];
    char why[200];
    for (int32_t q = 0; q < g->ranks; q++)
        number[q] = (int64_t)sizeof *told;
    const moe_exchange counts = {.phase = what->phase,
                                 .send = what->send_bytes,
                                 .receive = told,
                                 .send_bytes = number,
                                 .receive_bytes = number};
    moe_status status = g->host->exchange(g->meeting, rank, &counts);
    for (int32_t q = 0; !status && q < g->ranks; q++) {
        if (moe_transport_agree(rank, what, q, what->phase, told[q], why, sizeof why))
            continue;
        g->host->abandon(g->meeting, rank, why);
        status = MOE_E_DEVICE;
    }
    return status;
}

/* One group of sends and receives, a rank's own rows among them. */
static int enqueue(const group *g, int32_t rank, const moe_exchange *what) {
    const peer *p = &g->peer[rank];
    const char *out = p->out.data;
    char *in = p->in.data;
    int result = g->nccl.group_start();
    for (int32_t q = 0; result == NCCL_OK && q < g->ranks; q++) {
        const size_t sent = (size_t)what->send_bytes[q], due = (size_t)what->receive_bytes[q];
        if (sent)
            result = g->nccl.send(out, sent, NCCL_UINT8, q, p->comm, p->stream);
        if (due && result == NCCL_OK)
            result = g->nccl.receive(in, due, NCCL_UINT8, q, p->comm, p->stream);
        out += what->same ? 0 : sent;
        in += due;
    }
    const int ended = g->nccl.group_end();
    return result == NCCL_OK ? ended : result;
}

/* A stream that is not done in time stays behind: its communicator is aborted, which ends it. */
static moe_status wait_for(group *g, int32_t rank, int32_t phase) {
    peer *p = &g->peer[rank];
    const double end = moe_transport_now_s() + g->limit_s;
    for (;;) {
        int result = NCCL_OK;
        const cudaError_t error = cudaStreamQuery(p->stream);
        if (error == cudaSuccess)
            return MOE_OK;
        if (error != cudaErrorNotReady)
            return check_cuda(g, rank, phase, error);
        g->nccl.comm_async_error(p->comm, &result);
        const bool late = moe_transport_now_s() > end, others = g->host->fault(g->meeting)[0];
        if (result == NCCL_OK && !late && !others) {
            usleep(POLL_US);
            continue;
        }
        g->nccl.comm_abort(p->comm);
        p->comm = NULL;
        return result != NCCL_OK ? check_nccl(g, rank, phase, result)
                                 : give_up(g, rank, phase, "its GPU waits longer than the limit");
    }
}

static moe_status exchange(void *self, int32_t rank, const moe_exchange *what) {
    group *g = self;
    peer *p = &g->peer[rank];
    const size_t due = (size_t)total(what->receive_bytes, g->ranks);
    size_t sent = (size_t)total(what->send_bytes, g->ranks);
    for (int32_t q = 0; what->same && q < g->ranks; q++) /* to all who get it, once */
        sent = what->send_bytes[q] ? (size_t)what->send_bytes[q] : q ? sent : 0;
    moe_status status = meet(g, rank, what);
    if (!status)
        status = check_cuda(g, rank, what->phase, cudaSetDevice(rank));
    if (!status)
        status = check_cuda(g, rank, what->phase, reserve(&p->out, sent));
    if (!status)
        status = check_cuda(g, rank, what->phase, reserve(&p->in, due));
    if (!status && sent)
        status = check_cuda(
            g, rank, what->phase,
            cudaMemcpyAsync(p->out.data, what->send, sent, cudaMemcpyHostToDevice, p->stream));
    if (!status)
        status = check_nccl(g, rank, what->phase, enqueue(g, rank, what));
    if (!status)
        status = wait_for(g, rank, what->phase);
    if (!status && due)
        status = check_cuda(g, rank, what->phase,
                            cudaMemcpy(what->receive, p->in.data, due, cudaMemcpyDeviceToHost));
    return status;
}

/* Communicators take a second to make: those of a group that ended well wait for the next one. */
enum { PARKED = 2 };
static struct {
    pthread_mutex_t lock;
    peer *peer[PARKED];
    int32_t ranks[PARKED];
} parked = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void park(group *g) {
    pthread_mutex_lock(&parked.lock);
    for (int i = 0; i < PARKED && g->peer; i++) {
        if (parked.peer[i])
            continue;
        parked.peer[i] = g->peer;
        parked.ranks[i] = g->ranks;
        g->peer = NULL;
    }
    pthread_mutex_unlock(&parked.lock);
}

static peer *unpark(int32_t ranks) {
    peer *found = NULL;
    pthread_mutex_lock(&parked.lock);
    for (int i = 0; i < PARKED && !found; i++) {
        if (!parked.peer[i] || parked.ranks[i] != ranks)
            continue;
        found = parked.peer[i];
        parked.peer[i] = NULL;
    }
    pthread_mutex_unlock(&parked.lock);
    return found;
}

static void close_group(void *self) {
    group *g = self;
    if (g->is_open && !g->host->fault(g->meeting)[0])
        park(g);
    for (int32_t r = 0; g->peer && r < g->ranks; r++) {
        peer *p = &g->peer[r];
        cudaSetDevice(r);
        if (p->comm)
            g->nccl.comm_destroy(p->comm);
        if (p->stream)
            cudaStreamDestroy(p->stream);
        cudaFree(p->out.data);
        cudaFree(p->in.data);
    }
    if (g->meeting)
        g->host->close(g->meeting);
    free(g->peer);
    free(g);
}

static moe_status open_peers(group *g, const moe_log *log) {
    nccl_comm comms[MOE_EP_MAX_RANKS];
    const int result = g->nccl.comm_init_all(comms, g->ranks, NULL);
    if (result != NCCL_OK)
        return moe_fail(log, MOE_E_DEVICE, "nccl: %s", g->nccl.error_string(result));
    for (int32_t r = 0; r < g->ranks; r++)
        g->peer[r].comm = comms[r];
    for (int32_t r = 0; r < g->ranks; r++) {
        cudaError_t error = cudaSetDevice(r);
        if (error == cudaSuccess)
            error = cudaStreamCreateWithFlags(&g->peer[r].stream, cudaStreamNonBlocking);
        if (error != cudaSuccess)
            return moe_fail(log, MOE_E_DEVICE, "nccl: GPU %d: %s", (int)r,
                            cudaGetErrorString(error));
    }
    return MOE_OK;
}

static moe_status check_devices(const moe_transport_params *params) {
    int devices = 0;
    const cudaError_t error = cudaGetDeviceCount(&devices);
    if (error != cudaSuccess)
        return moe_fail(params->log, MOE_E_DEVICE, "nccl: no GPU: %s", cudaGetErrorString(error));
    if (params->ranks > devices)
        return moe_fail(params->log, MOE_E_DEVICE, "nccl: %d ranks need a GPU each, there are %d",
                        (int)params->ranks, devices);
    return MOE_OK;
}

static moe_status open_group(const moe_transport_params *params, void **ret) {
    moe_status status = check_devices(params);
    if (status)
        return status;
    group *g = calloc(1, sizeof *g);
    if (!g)
        return moe_fail(params->log, MOE_E_NOMEM, "nccl: no memory");
    *g = (group){.ranks = params->ranks, .limit_s = params->limit_s};
    g->host = moe_transport_threads();
    g->peer = unpark(params->ranks);
    const bool is_new = !g->peer;
    if (is_new)
        g->peer = calloc((size_t)params->ranks, sizeof *g->peer);
    setenv("NCCL_NVLS_ENABLE", "0", 0); /* multicast needs what not every host allows */
    if (!g->peer)
        status = moe_fail(params->log, MOE_E_NOMEM, "nccl: no memory");
    if (!status)
        status = nccl_load(params->log, &g->nccl);
    if (!status)
        status = g->host->open(params, &g->meeting);
    if (!status && is_new)
        status = open_peers(g, params->log);
    g->is_open = !status;
    if (status)
        close_group(g);
    else
        *ret = g;
    return status;
}

static void place(const void *self, int32_t *ret_first, int32_t *ret_count) {
    *ret_first = 0;
    *ret_count = ((const group *)self)->ranks;
}

static void abandon(void *self, int32_t rank, const char *why) {
    group *g = self;
    g->host->abandon(g->meeting, rank, why);
}

static const char *fault(void *self) {
    group *g = self;
    return g->host->fault(g->meeting);
}

__attribute__((visibility("default"))) extern const moe_transport moe_transport_v;
const moe_transport moe_transport_v = {
    .abi = MOE_TRANSPORT_ABI,
    .name = "nccl",
    .brief = "grouped sends and receives of NCCL, a GPU for each rank of one process",
    .devices = 1,
    .open = open_group,
    .close = close_group,
    .place = place,
    .exchange = exchange,
    .abandon = abandon,
    .fault = fault,
};
