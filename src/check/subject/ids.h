/* Experts that a file names for its tokens: which of the names are none. */
#ifndef MOE_CHECK_SUBJECT_IDS_H
#define MOE_CHECK_SUBJECT_IDS_H

#include "moeref/check.h"

/* What is wrong with a topk_index. */
typedef struct moe_int_bad_ids {
    int64_t count;       /* slots; 0 with a `why`: the tensor itself cannot be read as slots */
    int64_t token, slot; /* the first of them, and what stands there */
    double value;
    char why[128]; /* ""; nothing */
} moe_int_bad_ids;

/* Is `index` [T][columns] of integers, and every slot of it an expert of the case that its token
 * has not yet, or empty (-1) where the token has fewer experts than columns? */
void moe_int_ids_check(const moe_tensor *index, const moe_problem *problem, moe_int_bad_ids *ret);
/* Fails topk_index in `result` where something is wrong. */
void moe_int_ids_report(const moe_int_bad_ids *bad, moe_check_result *result);

#endif
