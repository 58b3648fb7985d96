/* Where a rank's rows go and come from: made once a forward from counts, used four times. */
#ifndef MOEREF_EP_HANDLE_H
#define MOEREF_EP_HANDLE_H

#include <stdlib.h>

#include "ep/comm.h"
#include "ep/faults.h"
#include "ep/padding.h"

/* Zeros, and never NULL for none of them. */
static inline void *moe_int_some(int64_t count, size_t size) {
    return calloc(count > 0 ? (size_t)count : 1, size);
}

/* Rows that are sent lie by destination, and for each by pair (slot, token) or, deduplicated, by
 * token. Pairs on the way lie as in the home's plan, of which a destination's are a slice. */
typedef struct moe_int_handle {
    int32_t ranks;
    bool dedup;
    int64_t own;           /* slots of this rank */
    int64_t pairs, copies; /* sent, of the latter those of nobody too */
    moe_int_pad pad;
    int64_t *send_pairs; /* [R] each */
    int64_t *send_copies;
    int64_t *receive_pairs;
    int64_t *receive_copies;
    int32_t *send_token;     /* [copies] home token; -1: nobody */
    int64_t *send_at;        /* [pairs] which copy each pair's is; deduplicated: none */
    int32_t *send_copy;      /* [pairs] dedup: number of the copy among the destination's */
    int64_t *receive_counts; /* [R][own] pairs of each rank for each expert */
    int64_t received_pairs, received_copies;
    int64_t added;       /* rows of nobody that this rank puts behind those that came */
    int64_t *receive_at; /* [received_pairs] as send_at */
    int64_t *row_of;     /* [received_pairs] row in `plan` of each pair as it came */
    moe_plan *plan;      /* of received copies, `added` ones, and own slots; NULL: nothing came */
    moe_int_ep_fault fault;
} moe_int_handle;

/* Exchanges counts and weights. `plan` is of the rank's tokens over all slots, of which rank r has
 * first[r] .. first[r+1]; `weight` a moe_dtype. */
moe_status moe_int_handle_make(moe_int_comm *c, const moe_plan *plan, const int64_t *first,
                               int32_t combine, const moe_int_pad *pad, moe_dtype weight,
                               moe_int_ep_fault fault, moe_int_handle *ret);
/* The part of it that comes after the counts: a weight for each pair, and the plan of what came. */
moe_status moe_int_handle_receive(moe_int_handle *h, moe_int_comm *c, const moe_plan *plan,
                                  moe_dtype weight);
/* Pairs that came for one of the own slots. */
int64_t moe_int_handle_rows(const moe_int_handle *h, int64_t slot);
void moe_int_handle_destroy(moe_int_handle *h);

/* Rows of `tokens` [T][d] to the owners; ret has room for received_copies rows. */
moe_status moe_int_dispatch(const moe_int_handle *h, moe_int_comm *c, int32_t phase,
                            const moe_tensor *tokens, void *ret);
/* The same of X in 8 bits: coded at home, and read again at the owners. */
moe_status moe_int_dispatch_coded(const moe_int_handle *h, moe_int_comm *c,
                                  const moe_tensor *tokens, void *ret);
/* Rows for each copy go home: from [received_copies] as they came to [copies] as they were sent.
 */
moe_status moe_int_copies_home(const moe_int_handle *h, moe_int_comm *c, int32_t phase,
                               const void *rows, int64_t row_bytes, void *ret);
/* Rows for each pair go home: from [received_pairs] in the order of `plan` to [pairs] in that of
 * the home's. */
moe_status moe_int_pairs_home(const moe_int_handle *h, moe_int_comm *c, int32_t phase,
                              const void *rows, int64_t row_bytes, void *ret);

#endif
