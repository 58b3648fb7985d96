/* What an operation of a tape works on. */
#ifndef MOE_BLOCK_TAPE_STEP_H
#define MOE_BLOCK_TAPE_STEP_H

#include "block/tape/tape.h"

typedef struct moe_int_step_args {
    const moe_int_step *s, *a, *b;
    double *da, *db;
} moe_int_step_args;

static inline int64_t moe_int_step_count(const moe_int_step *s) {
    return s->rows * s->columns;
}

/* products.c */
moe_status moe_int_linear_forward(const moe_int_step_args *k, double *y);
moe_status moe_int_linear_backward(const moe_int_step_args *k);
moe_status moe_int_mix_forward(const moe_int_step_args *k, double *y);
moe_status moe_int_mix_backward(const moe_int_step_args *k);

#endif
