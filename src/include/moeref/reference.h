/* The reference layer: plain loops that define what every backend must compute.
 *
 * float64: the oracle; obviously right, no BLAS, a fixed order of additions, the same bits for
 * every thread count. float32: the same loops in float. bf16 and fp16: float loops with every
 * tensor that a backend of that precision stores rounded to it: results, and the points of a recipe
 * (recipe.h; this project's own: H, A, Y, dH, A', dX~). */
#ifndef MOEREF_REFERENCE_H
#define MOEREF_REFERENCE_H

#include "moeref/arithmetic.h"
#include "moeref/case.h"
#include "moeref/recipe.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Thread-safety: plain data. */
typedef struct moe_reference_params {
    int64_t tokens;
    int32_t precision;    /* moe_dtype: MOE_F64, MOE_F32, MOE_BF16 or MOE_F16 */
    int32_t threads;      /* 0: all; results do not depend on it */
    const moe_plan *plan; /* the routing to use; NULL: route with the layer's router */
    int32_t plan_given;   /* with plan: 1 it is an input (no router gradients), 0 it is the router's
                             own choice (weights are recomputed from the logits, gradients flow) */
    uint64_t seed;        /* stochastic token rounding */
    int32_t skip_weight_gradients;  /* 1: leave dW1, db1, dW2, db2 out (the sampled oracle) */
    const moe_recipe *recipe;       /* where values are rounded to `precision`, and what is computed
                                       from what; NULL: this project's own recipe */
    const moe_arithmetic *products; /* bf16 and fp16: the products of the experts and the router as
                                       this unit makes them; NULL: in fp32, one after the other */
    const moe_progress *progress;   /* "oracle", expert by expert; NULL: nowhere */
} moe_reference_params;

/* Results in the run's arithmetic type (MOE_F64 or MOE_F32); every tensor that exists is set.
 * Thread-safety: plain data. */
typedef struct moe_reference_result {
    moe_plan *plan;
    moe_tensors out;
} moe_reference_result;

/* Runs forward and, when in->t[MOE_T_DO] is present, backward. `in` may hold any floating dtype;
 * parameters are converted one expert at a time. MOE_E_INVALID, MOE_E_NOMEM. */
MOE_API moe_status moe_reference_run(const moe_layer_desc *desc, const moe_tensors *in,
                                     const moe_reference_params *params, const moe_log *log,
                                     moe_reference_result **ret);

/* The router alone: float64 logits [T][E+n_zero] (freed by the caller with free(); may be NULL if
 * not wanted) and the plan. Linear in T*d*E, for shapes whose experts are too large to run in full.
 */
MOE_API moe_status moe_reference_route(const moe_layer_desc *desc, const moe_tensors *in,
                                       const moe_reference_params *params, const moe_log *log,
                                       double **ret_logits, moe_plan **ret_plan);

/* The whole problem in float64: its passes, its given plan or its router's, masked tokens without
 * experts. */
MOE_API moe_status moe_reference_problem(const moe_problem *problem, int32_t threads,
                                         const moe_log *log, moe_reference_result **ret);

MOE_API void moe_reference_result_destroy(moe_reference_result **result);

#ifdef __cplusplus
}
#endif
#endif
