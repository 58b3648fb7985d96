/* What one rank says to the others: exchanges counted and, if asked for, delayed; sums in rank
 * order on top of them. */
#ifndef MOEREF_EP_COMM_H
#define MOEREF_EP_COMM_H

#include "moeref/ep.h"

#include <stdbool.h>

typedef struct moe_int_comm {
    const moe_transport *transport;
    void *group;
    int32_t rank, ranks;
    int32_t delay_us; /* most that it sleeps before an exchange */
    uint64_t drawn, seed;
    moe_ep_traffic sent;
    double exchange_s; /* spent in exchanges since it was set to 0 */
} moe_int_comm;

/* notes.c: tells who started this process, if they want to know, that its rank comes to an
 * exchange, or leaves it. */
void moe_int_ep_note(int32_t rank, int32_t phase, bool inside);

/* Arrays of bytes are [ranks]. */
moe_status moe_int_comm_exchange(moe_int_comm *c, int32_t phase, const void *send,
                                 const int64_t *send_bytes, void *receive,
                                 const int64_t *receive_bytes);
/* Everybody gets everybody's `send`, receive_bytes[rank] of it, in rank order. */
moe_status moe_int_comm_gather(moe_int_comm *c, int32_t phase, const void *send, void *receive,
                               const int64_t *receive_bytes);
/* sum[count] goes through the ranks in order: a rank gets the sum of those before it in `sum`, zero
 * for rank 0, `add`s its own, and all end up with the last one's. Order, and so bits, are those of
 * one rank that adds everything. */
moe_status moe_int_comm_ordered_sum(moe_int_comm *c, double *sum, int64_t count,
                                    void (*add)(void *user, double *sum), void *user);

#endif
