/* A transport over MPI, one process a rank: built once for each MPI that there is, as their binary
 * interfaces differ. MPI-3 calls alone, from one thread.
 *
 * Ranks meet before rows move: each tells every other one the phase that it is in and how many
 * bytes it sends, point to point, so that a rank that does not come can be named. */
#include "moeref/ep.h"

#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TAG_MEET = 1, TAG_ROWS, POLL_US = 20, FAREWELL_S = 2, MOST_BYTES = 1 << 30 };

/* There is one world in a process, and what is wrong with it once stays wrong. */
static struct {
    bool is_open;
    int32_t rank, ranks;
    char fault[200];
} world;

typedef struct group {
    MPI_Comm comm;
    double limit_s;
} group;

static moe_status give_up(const char *why) {
    if (!world.fault[0])
        snprintf(world.fault, sizeof world.fault, "%s", why);
    return MOE_E_DEVICE;
}

/* At the end of the process. After a fault others may still be waiting, or asleep: they are ended;
 * rank 0, who reports, goes first. */
static void end_world(void) {
    if (!world.is_open)
        return;
    if (!world.fault[0]) {
        MPI_Finalize();
        return;
    }
    fflush(NULL);
    if (world.rank != 0)
        sleep(FAREWELL_S);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static moe_status open_world(const moe_log *log) {
    int provided, rank, ranks;
    if (world.is_open)
        return MOE_OK;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
        return moe_fail(log, MOE_E_DEVICE, MPI_NAME ": MPI_Init failed");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    world.is_open = true;
    world.rank = rank;
    world.ranks = ranks;
    atexit(end_world);
    return MOE_OK;
}

/* Until all are done. False: time is over, and *ret_late is the first that is not. */
static bool wait_for(MPI_Request *request, int count, double limit_s, int *ret_late) {
    const double end = moe_transport_now_s() + limit_s;
    for (*ret_late = 0; *ret_late < count;) {
        int done = 0;
        if (MPI_Test(&request[*ret_late], &done, MPI_STATUS_IGNORE) != MPI_SUCCESS)
            return false;
        if (done)
            ++*ret_late;
        else if (moe_transport_now_s() > end)
            return false;
        else
            usleep(POLL_US);
    }
    return true;
}

static moe_status late(const group *g, int32_t phase, int32_t whom) {
    char why[sizeof world.fault];
    moe_transport_say_late(world.rank, g->limit_s, whom, phase, why, sizeof why);
    return give_up(why);
}

static moe_status check(int32_t q, const moe_exchange *what, const int64_t *told) {
    char why[sizeof world.fault];
    return moe_transport_agree(world.rank, what, q, (int32_t)told[0], told[1], why, sizeof why)
               ? MOE_OK
               : give_up(why);
}

static moe_status meet(const group *g, const moe_exchange *what) {
    /* not on the stack: what a late rank tells may still come when this call is over */
    static int64_t mine[MOE_EP_MAX_RANKS][2], told[MOE_EP_MAX_RANKS][2];
    MPI_Request request[2 * MOE_EP_MAX_RANKS];
    const int32_t R = world.ranks;
    int at;
    for (int32_t q = 0; q < R; q++) {
        mine[q][0] = what->phase;
        mine[q][1] = what->send_bytes[q];
        MPI_Irecv(told[q], sizeof told[q], MPI_BYTE, q, TAG_MEET, g->comm, &request[q]);
    }
    for (int32_t q = 0; q < R; q++)
        MPI_Isend(mine[q], sizeof mine[q], MPI_BYTE, q, TAG_MEET, g->comm, &request[R + q]);
    if (!wait_for(request, 2 * R, g->limit_s, &at))
        return late(g, what->phase, at % R);
    moe_status status = MOE_OK;
    for (int32_t q = 0; !status && q < R; q++)
        status = check(q, what, told[q]);
    return status;
}

/* Rows as they lie; pieces of what MPI-3 can count. */
static moe_status move(const group *g, const moe_exchange *what) {
    const int32_t R = world.ranks;
    const char *out = what->send;
    char *in = what->receive;
    int64_t pieces = 0, n = 0;
    int at;
    for (int32_t q = 0; q < R; q++)
        pieces += what->send_bytes[q] / MOST_BYTES + what->receive_bytes[q] / MOST_BYTES + 2;
    MPI_Request *request = malloc((size_t)(pieces + 1) * sizeof *request);
    int32_t *whose = malloc((size_t)(pieces + 1) * sizeof *whose);
    for (int32_t q = 0; request && whose && q < R; q++) {
        for (int64_t b = 0; b < what->receive_bytes[q]; b += MOST_BYTES) {
            const int64_t rest = what->receive_bytes[q] - b;
            whose[n] = q;
            MPI_Irecv(in + b, (int)(rest < MOST_BYTES ? rest : MOST_BYTES), MPI_BYTE, q, TAG_ROWS,
                      g->comm, &request[n++]);
        }
        for (int64_t b = 0; b < what->send_bytes[q]; b += MOST_BYTES) {
            const int64_t rest = what->send_bytes[q] - b;
            whose[n] = q;
            MPI_Isend(out + b, (int)(rest < MOST_BYTES ? rest : MOST_BYTES), MPI_BYTE, q, TAG_ROWS,
                      g->comm, &request[n++]);
        }
        in += what->receive_bytes[q];
        out += what->same ? 0 : what->send_bytes[q];
    }
    moe_status status = request && whose ? MOE_OK : MOE_E_NOMEM;
    if (!status && !wait_for(request, (int)n, g->limit_s, &at))
        status = late(g, what->phase, whose[at]);
    free(request);
    free(whose);
    return status;
}

static moe_status exchange(void *self, int32_t rank, const moe_exchange *what) {
    (void)rank;
    if (world.fault[0])
        return MOE_E_DEVICE;
    moe_status status = meet(self, what);
    return status ? status : move(self, what);
}

static void close_group(void *self) {
    group *g = self;
    if (!world.fault[0])
        MPI_Comm_free(&g->comm);
    free(g);
}

static moe_status open_group(const moe_transport_params *params, void **ret) {
    moe_status status = open_world(params->log);
    if (status)
        return status;
    if (params->ranks != world.ranks)
        return moe_fail(params->log, MOE_E_INVALID, MPI_NAME ": %d ranks are asked for, %d run",
                        (int)params->ranks, (int)world.ranks);
    if (world.fault[0])
        return moe_fail(params->log, MOE_E_DEVICE, "%s", world.fault);
    group *g = calloc(1, sizeof *g);
    if (!g)
        return moe_fail(params->log, MOE_E_NOMEM, MPI_NAME ": no memory");
    g->limit_s = params->limit_s;
    MPI_Comm_dup(MPI_COMM_WORLD, &g->comm);
    *ret = g;
    return MOE_OK;
}

static void place(const void *self, int32_t *ret_first, int32_t *ret_count) {
    (void)self;
    *ret_first = world.rank;
    *ret_count = 1;
}

static void abandon(void *self, int32_t rank, const char *why) {
    (void)self;
    (void)rank;
    give_up(why);
}

static const char *fault(void *self) {
    (void)self;
    return world.fault;
}

static int32_t started(void) {
    const char *rank = getenv(MPI_RANK_VARIABLE);
    return rank ? (int32_t)atoi(rank) : -1;
}

static const char *const launcher[] = {MPI_LAUNCHER, NULL};

__attribute__((visibility("default"))) extern const moe_transport moe_transport_v;
const moe_transport moe_transport_v = {
    .abi = MOE_TRANSPORT_ABI,
    .name = MPI_NAME,
    .brief = "MPI, a process for each rank",
    .launcher = launcher,
    .started = started,
    .open = open_group,
    .close = close_group,
    .place = place,
    .exchange = exchange,
    .abandon = abandon,
    .fault = fault,
};
