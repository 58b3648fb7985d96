/* What crosses between ranks: rows that name themselves, bytes, bits. */
#ifndef MOE_CHECK_RANKS_RANKS_H
#define MOE_CHECK_RANKS_RANKS_H

#include "moeref/check.h"

/* What the checks of one problem share. */
typedef struct moe_int_ranks {
    moe_backend *const *inner;
    int32_t count;
    const moe_ep_params *ep;
    const moe_problem *problem;
    const moe_log *log;
    moe_ranks *found;
} moe_int_ranks;

/* Sets a verdict that is worse than the one there is. */
void moe_int_ranks_fail(moe_ranks *found, moe_verdict verdict, const char *format, ...)
    MOE_PRINTF(3, 4);

/* A row that came to a rank of this process, and the token that it should be. */
typedef struct moe_int_arrival {
    const moe_ep_layout *layout;
    int32_t rank;
    int64_t expert, place; /* `place`-th row of `expert` there */
    int64_t token;         /* of all */
    const moe_tensor *rows;
    int64_t row;
    bool backward;
} moe_int_arrival;
typedef void (*moe_int_arrival_fn)(const moe_int_arrival *a, moe_ranks *found, void *user);

/* arrivals.c: looks at every row of the last passes of a layer, and at how many there are. */
moe_status moe_int_ranks_arrivals(const moe_int_ranks *k, moe_backend *backend, moe_layer *layer,
                                  moe_int_arrival_fn look, void *user);
int32_t moe_int_ranks_home_of(const moe_ep_layout *layout, int64_t token);

/* payload.c: runs tokens that hold their own numbers and looks where they arrive; and do the bytes
 * that were sent follow from the plans? */
moe_status moe_int_ranks_payload(const moe_int_ranks *k, moe_backend *backend);
/* coded.c: are rows of 8 bits what their tokens' codes and scales stand for? */
moe_status moe_int_ranks_coded(const moe_int_ranks *k, moe_backend *backend);
/* same.c: one rank's bits, and the same bits after random delays; of results that are wrong already
 * the cause. */
moe_status moe_int_ranks_same(const moe_int_ranks *k, moe_backend *backend,
                              moe_check_result *result);

#endif
