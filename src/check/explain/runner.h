/* One run of a changed layer on the scene: what variant.c and sums.c share. */
#ifndef MOE_CHECK_EXPLAIN_RUNNER_H
#define MOE_CHECK_EXPLAIN_RUNNER_H

#include "check/explain/scene.h"

typedef struct moe_int_runner {
    const moe_int_scene *s;
    const moe_int_change *c;
    const moe_int_variant *base;
    moe_int_variant *r;
    moe_plan *sub;     /* of the scene's tokens, weighed as `S` is */
    moe_plan *used;    /* and as the experts use it */
    int64_t *position; /* [pairs of sub] place among all rows of its expert */
} moe_int_runner;

static inline const moe_layer_desc *moe_int_run_layer(const moe_int_runner *k) {
    return &k->s->evidence->problem->layer;
}

/* The shared expert's gate at token i of the scene. */
double moe_int_run_gate(const moe_int_runner *k, int64_t i);
/* O of the scene's tokens from their experts' Y. */
void moe_int_sum_outputs(const moe_int_runner *k);
/* dX from their experts' dX~, and through the router. MOE_E_NOMEM. */
moe_status moe_int_sum_gradients(const moe_int_runner *k);

#endif
