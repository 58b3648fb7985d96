#include "ep/comm.h"
#include "moeref/rng.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static void sleep_a_little(moe_int_comm *c) {
    if (c->delay_us <= 0)
        return;
    const uint64_t us =
        moe_rng_bits(c->seed, (uint64_t)c->rank, c->drawn++) % (uint64_t)c->delay_us;
    const struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    nanosleep(&t, NULL);
}

static moe_status exchange(moe_int_comm *c, const moe_exchange *what) {
    sleep_a_little(c);
    for (int32_t q = 0; q < c->ranks; q++)
        c->sent.bytes[what->phase] += what->send_bytes[q];
    const double start = moe_transport_now_s();
    moe_int_ep_note(c->rank, what->phase, true);
    moe_status status = c->transport->exchange(c->group, c->rank, what);
    moe_int_ep_note(c->rank, what->phase, false);
    c->exchange_s += moe_transport_now_s() - start;
    return status;
}

moe_status moe_int_comm_exchange(moe_int_comm *c, int32_t phase, const void *send,
                                 const int64_t *send_bytes, void *receive,
                                 const int64_t *receive_bytes) {
    const moe_exchange what = {.phase = phase,
                               .send = send,
                               .receive = receive,
                               .send_bytes = send_bytes,
                               .receive_bytes = receive_bytes};
    return exchange(c, &what);
}

moe_status moe_int_comm_gather(moe_int_comm *c, int32_t phase, const void *send, void *receive,
                               const int64_t *receive_bytes) {
    int64_t send_bytes[MOE_EP_MAX_RANKS];
    for (int32_t q = 0; q < c->ranks; q++)
        send_bytes[q] = receive_bytes[c->rank];
    const moe_exchange what = {.phase = phase,
                               .same = 1,
                               .send = send,
                               .receive = receive,
                               .send_bytes = send_bytes,
                               .receive_bytes = receive_bytes};
    return exchange(c, &what);
}

/* From one rank to one, or to all but itself. */
static moe_status pass(moe_int_comm *c, int32_t from, int32_t to, double *sum, int64_t count) {
    int64_t send_bytes[MOE_EP_MAX_RANKS] = {0}, receive_bytes[MOE_EP_MAX_RANKS] = {0};
    const int64_t bytes = count * (int64_t)sizeof *sum;
    for (int32_t q = 0; q < c->ranks; q++)
        if (c->rank == from && q != from && (to < 0 || q == to))
            send_bytes[q] = bytes;
    if (c->rank != from && (to < 0 || c->rank == to))
        receive_bytes[from] = bytes;
    const moe_exchange what = {.phase = MOE_EP_SUMS,
                               .same = 1,
                               .send = sum,
                               .receive = sum,
                               .send_bytes = send_bytes,
                               .receive_bytes = receive_bytes};
    return exchange(c, &what);
}

moe_status moe_int_comm_ordered_sum(moe_int_comm *c, double *sum, int64_t count,
                                    void (*add)(void *user, double *sum), void *user) {
    moe_status status = MOE_OK;
    memset(sum, 0, (size_t)count * sizeof *sum);
    if (c->rank == 0)
        add(user, sum);
    for (int32_t r = 1; !status && r < c->ranks; r++) {
        status = pass(c, r - 1, r, sum, count);
        if (!status && c->rank == r)
            add(user, sum);
    }
    return status ? status : pass(c, c->ranks - 1, -1, sum, count);
}
