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

/* payload.c: runs tokens that hold their own numbers and looks where they arrive; and do the bytes
 * that were sent follow from the plans? */
moe_status moe_int_ranks_payload(const moe_int_ranks *k, moe_backend *backend);
/* same.c: one rank's bits, and the same bits after random delays; of results that are wrong already
 * the cause. */
moe_status moe_int_ranks_same(const moe_int_ranks *k, moe_backend *backend,
                              moe_check_result *result);

#endif
