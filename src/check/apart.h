/* What is wrong whatever a subject is read as: results of another shape or of integers, ids that
 * are no experts', numbers that are missing, errors that no rounding makes. No recipe explains
 * them, and they are no reason that none should be asked of the others. */
#ifndef MOE_CHECK_APART_H
#define MOE_CHECK_APART_H

#include "check/subject/subject.h"

/* A subject without what its first reading found apart. Not to be moved: `rest` points at it. */
typedef struct moe_int_apart {
    const moe_int_subject *whole;
    bool is[MOE_T_COUNT];
    moe_int_subject rest;
    moe_check_result before; /* what was found before any reading */
    moe_check_result found;  /* and by the first one; maps are not its own */
    bool (*far)(const moe_tensor_verdict *v, const moe_problem *problem);
    size_t count;
} moe_int_apart;

/* `far` says whether a failure is an error that no rounding makes; NULL: that is not asked. */
void moe_int_apart_make(const moe_int_subject *subject, const moe_check_result *before,
                        const moe_check_result *first,
                        bool (*far)(const moe_tensor_verdict *v, const moe_problem *problem),
                        moe_int_apart *ret);

/* Puts into `result`, which is of the rest, what `first` found apart: it fails by that. */
void moe_int_apart_return(const moe_int_apart *a, const moe_check_result *first,
                          moe_check_result *result);

#endif
