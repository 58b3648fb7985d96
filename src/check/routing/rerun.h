/* What O of some tokens would be with other sets of experts. */
#ifndef MOE_CHECK_ROUTING_RERUN_H
#define MOE_CHECK_ROUTING_RERUN_H

#include "check/routing/alternatives.h"
#include "moeref/reference.h"

/* The experts' outputs for some tokens, and for each of these its sets. */
typedef struct moe_int_rerun {
    const moe_layer_desc *desc;
    const moe_tensors *in; /* X has the tokens alone, [tokens][d] */
    const double *logits;  /* [tokens][n] */
    int64_t tokens, n;
    const moe_int_sets *sets; /* [tokens] */
    bool on_input;            /* then every set has a row of its own in `result`'s plan, since an
                                 expert's output depends on the weight; else every token has one */
    int64_t *first;           /* [tokens + 1] row of a token's set 0; owned */
    double *rest;             /* [rows][d] what O has beside the pairs; owned */
    moe_reference_result *result; /* owned */
} moe_int_rerun;

/* How far the subject's O of a token is from what a set makes of it: sums of squares over d. */
typedef struct moe_int_fit {
    double off; /* the difference */
    double
        without; /* the same without the experts that set 0 has not; INFINITY if there are none */
    double size; /* of the summands of O: what rounding errors are relative to */
} moe_int_fit;

/* Model FLOPs of the run that moe_int_rerun_make would make. */
double moe_int_rerun_flops(const moe_int_rerun *rerun);
/* Runs the reference on the sets; ``rerun` has everything but what it will own, which is NULL. */
moe_status moe_int_rerun_make(moe_int_rerun *rerun, int threads, const moe_log *log);
void moe_int_rerun_destroy(moe_int_rerun *rerun);
/* Set `set` of token i against got[d], its row of the subject's O. */
moe_status moe_int_rerun_fit(const moe_int_rerun *rerun, int64_t i, int64_t set, const double *got,
                             moe_int_fit *ret);

#endif
