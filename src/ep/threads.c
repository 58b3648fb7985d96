/* The transport of one process: a rank is a thread, and copies what it receives from the memory of
 * the rank that sends it. */
#include "moeref/transport.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What a rank shows the others. */
typedef struct post {
    const moe_exchange *what; /* valid until all have taken from it */
    int64_t count;            /* steps that it has reached: shown, taken, shown ... */
} post;

typedef struct group {
    int32_t ranks;
    double limit_s;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    post *post;      /* [ranks] */
    int64_t step;    /* that all ranks have reached */
    int32_t reached; /* ranks that have reached the next one */
    int32_t copying; /* ranks that read other ranks' memory */
    bool ended;
    char fault[200];
} group;

static void end_locked(group *g, const char *why) {
    if (!g->ended)
        snprintf(g->fault, sizeof g->fault, "%s", why);
    g->ended = true;
    pthread_cond_broadcast(&g->moved);
}

static struct timespec deadline_of(const group *g) {
    const double end = moe_transport_now_s() + g->limit_s;
    const time_t whole = (time_t)end;
    return (struct timespec){whole, (long)((end - (double)whole) * 1e9)};
}

static void time_out(group *g, int32_t rank, int32_t phase) {
    char why[sizeof g->fault];
    int32_t late = 0;
    while (late < g->ranks - 1 && g->post[late].count > g->step)
        late++;
    moe_transport_say_late(rank, g->limit_s, late, phase, why, sizeof why);
    end_locked(g, why);
}

/* Until every rank has reached this rank's next step. */
static moe_status wait_for_all(group *g, int32_t rank, int32_t phase) {
    const struct timespec until = deadline_of(g);
    const int64_t step = ++g->post[rank].count;
    if (++g->reached == g->ranks) {
        g->reached = 0;
        g->step = step;
        pthread_cond_broadcast(&g->moved);
    }
    while (!g->ended && g->step < step)
        if (pthread_cond_timedwait(&g->moved, &g->lock, &until) && !g->ended && g->step < step)
            time_out(g, rank, phase);
    return g->ended ? MOE_E_DEVICE : MOE_OK;
}

/* Do all agree on what this exchange is? */
static moe_status check_locked(group *g, int32_t rank, const moe_exchange *mine) {
    char why[sizeof g->fault];
    bool agree = true;
    for (int32_t q = 0; q < g->ranks && agree; q++) {
        const moe_exchange *theirs = g->post[q].what;
        agree = moe_transport_agree(rank, mine, q, theirs->phase, theirs->send_bytes[rank], why,
                                    sizeof why);
    }
    if (agree)
        return MOE_OK;
    end_locked(g, why);
    return MOE_E_DEVICE;
}

static void take(const group *g, int32_t rank, const moe_exchange *mine) {
    char *to = mine->receive;
    for (int32_t q = 0; q < g->ranks; q++) {
        const moe_exchange *theirs = g->post[q].what;
        const char *from = theirs->send;
        for (int32_t p = 0; p < rank && !theirs->same; p++)
            from += theirs->send_bytes[p];
        if (mine->receive_bytes[q])
            memcpy(to, from, (size_t)mine->receive_bytes[q]);
        to += mine->receive_bytes[q];
    }
}

static moe_status exchange(void *self, int32_t rank, const moe_exchange *what) {
    group *g = self;
    pthread_mutex_lock(&g->lock);
    g->post[rank].what = what;
    moe_status status = g->ended ? MOE_E_DEVICE : wait_for_all(g, rank, what->phase);
    if (!status)
        status = check_locked(g, rank, what);
    if (!status) {
        g->copying++;
        pthread_mutex_unlock(&g->lock);
        take(g, rank, what);
        pthread_mutex_lock(&g->lock);
        if (--g->copying == 0 && g->ended)
            pthread_cond_broadcast(&g->moved);
        status = wait_for_all(g, rank, what->phase);
    }
    while (g->ended && g->copying) /* they read what this rank is about to free */
        pthread_cond_wait(&g->moved, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return status;
}

static void close_group(void *self) {
    group *g = self;
    pthread_cond_destroy(&g->moved);
    pthread_mutex_destroy(&g->lock);
    free(g->post);
    free(g);
}

static moe_status open_group(const moe_transport_params *params, void **ret) {
    group *g = calloc(1, sizeof *g);
    post *posts = calloc((size_t)params->ranks, sizeof *posts);
    if (!g || !posts) {
        free(g);
        free(posts);
        return moe_fail(params->log, MOE_E_NOMEM, "no memory for %d ranks", (int)params->ranks);
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    *g = (group){.ranks = params->ranks, .limit_s = params->limit_s, .post = posts};
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->moved, &attributes);
    pthread_condattr_destroy(&attributes);
    *ret = g;
    return MOE_OK;
}

static void place(const void *self, int32_t *ret_first, int32_t *ret_count) {
    *ret_first = 0;
    *ret_count = ((const group *)self)->ranks;
}

static void abandon(void *self, int32_t rank, const char *why) {
    (void)rank;
    group *g = self;
    pthread_mutex_lock(&g->lock);
    end_locked(g, why);
    pthread_mutex_unlock(&g->lock);
}

static const char *fault(void *self) {
    group *g = self;
    pthread_mutex_lock(&g->lock);
    const char *text = g->ended ? g->fault : "";
    pthread_mutex_unlock(&g->lock);
    return text;
}

const moe_transport *moe_transport_threads(void) {
    static const moe_transport table = {
        .abi = MOE_TRANSPORT_ABI,
        .name = "threads",
        .brief = "threads of one process that copy from each other's memory",
        .open = open_group,
        .close = close_group,
        .place = place,
        .exchange = exchange,
        .abandon = abandon,
        .fault = fault,
    };
    return &table;
}
