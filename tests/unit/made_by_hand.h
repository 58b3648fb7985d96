/* Layers, plans and tensors made by hand, for moe_int_compare. */
#ifndef MOE_TESTS_MADE_BY_HAND_H
#define MOE_TESTS_MADE_BY_HAND_H

#include "check/compare/compare.h"
#include "check/subject/guard.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static inline moe_layer_desc layer(int64_t d, int64_t n, int64_t E) {
    moe_layer_desc desc;
    moe_layer_desc_init(&desc);
    desc.d = d;
    desc.n = n;
    desc.E = E;
    desc.K = 1;
    return desc;
}

/* A float64 tensor of N(0,1) values, the same for the same stream. */
static inline moe_tensor normal(int32_t ndim, int64_t a, int64_t b, int64_t c, uint64_t stream) {
    int64_t shape[] = {a, b, c};
    moe_tensor t;
    cr_assert_eq(moe_tensor_alloc(MOE_F64, ndim, shape, &t), MOE_OK);
    moe_rng_fill(t.data, MOE_F64, 0, (size_t)moe_tensor_count(&t), MOE_FILL_NORMAL, 1, 11, stream);
    return t;
}

static inline double *at(const moe_tensor *t, int64_t i) {
    return (double *)t->data + i;
}

/* Plan of T tokens, token t at expert t * E / T. */
static inline moe_plan *blocks(int64_t T, int64_t E) {
    int32_t token[512], expert[512];
    moe_plan *plan = NULL;
    for (int64_t t = 0; t < T; t++) {
        token[t] = (int32_t)t;
        expert[t] = (int32_t)(t * E / T);
    }
    cr_assert_eq(moe_plan_create(T, E, T, token, expert, NULL, NULL, &plan), MOE_OK);
    return plan;
}

#endif
