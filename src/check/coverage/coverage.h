/* How often the features of a layer decide something. A case that has a clamp in which no value is
 * clamped says nothing about clamps: a backend without one passes it. table.c lists the features,
 * one row each; coverage.c asks each of them, the other files count. */
#ifndef MOE_CHECK_COVERAGE_H
#define MOE_CHECK_COVERAGE_H

#include "moeref/check.h"
#include "moeref/reference.h"

#include <stdbool.h>

/* A layer with its truth, as features see it. Nothing is owned. */
typedef struct moe_int_view {
    const moe_problem *problem;
    const moe_case *c; /* NULL: not of the case grammar */
    const moe_layer_desc *desc;
    int64_t T;
    const moe_tensors *in, *out; /* the oracle's results, in float64 */
    const double *logits;        /* [T][E+n_zero]; NULL: the plan is given */
    const double *b_select;      /* [E+n_zero] or NULL */
    const moe_plan *plan;        /* in force, with its weights */
    const moe_plan *routed;      /* the router's own; as `plan` where that is given */
    uint64_t seed;
    moe_dtype arithmetic;
    bool exact, exact_h; /* errors/exact.h */
} moe_int_view;

/* One feature. Rows of the table may share their functions and tell them by `arg`. */
typedef struct moe_int_feature {
    const char *name, *counted; /* what is counted, in the plural */
    /* How many does it decide? Negative: no memory. */
    int64_t (*count)(const moe_int_view *v, int64_t arg);
    /* Does the case ask for it? NULL: no key does. */
    bool (*carries)(const moe_int_view *v, int64_t arg);
    int64_t arg;
} moe_int_feature;

extern const moe_int_feature moe_int_features[];
extern const int32_t moe_int_feature_count;

/* Counts every feature of a problem whose oracle and routing are known. `routed_logits` as in
 * moe_int_view. */
moe_status moe_int_coverage(const moe_problem *problem, const moe_reference_result *oracle,
                            const double *logits, moe_dtype arithmetic, moe_coverage *ret);

/* The features that the case carries and that decide nothing in it, as a list of names; "" */
void moe_int_coverage_missing(const moe_coverage *coverage, char *ret, size_t size);

/* The plan that the router of `desc` makes, masked as the problem is. */
moe_status moe_int_view_route(const moe_int_view *v, const moe_layer_desc *desc,
                              const double *logits, const double *b_select, moe_plan **ret);

/* Has a weight changed by more than any gate lets pass? */
bool moe_int_differs(double a, double b);

/* rows.c: who gets rows, and tails of tiles. */
int64_t moe_int_count_row_tails(const moe_int_view *v, int64_t tile);
int64_t moe_int_count_rows_beyond(const moe_int_view *v, int64_t tile);
int64_t moe_int_count_d_tails(const moe_int_view *v, int64_t tile);
int64_t moe_int_count_n_tails(const moe_int_view *v, int64_t tile);
int64_t moe_int_count_empty(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_idle(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_uneven(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_hot(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_experts_from(const moe_int_view *v, int64_t first);
int64_t moe_int_count_more_than(const moe_int_view *v, int64_t experts);
int64_t moe_int_count_masked(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_slots(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_single(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_zero_experts(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_given(const moe_int_view *v, int64_t given);

/* choice.c: tokens whose experts something changes. */
int64_t moe_int_count_selection(const moe_int_view *v, int64_t select);
int64_t moe_int_count_mask_by_zero(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_group_by_best(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_select_bias(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_ties(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_dropped(const moe_int_view *v, int64_t select);
int64_t moe_int_count_added(const moe_int_view *v, int64_t select);
int64_t moe_int_count_rounding(const moe_int_view *v, int64_t rule);

/* weights.c: tokens whose weights something changes. */
int64_t moe_int_count_score(const moe_int_view *v, int64_t score);
int64_t moe_int_count_renorm(const moe_int_view *v, int64_t on);
int64_t moe_int_count_renorm_partial(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_eps(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_scale(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_jitter(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_router_bias(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_bias_in_weight(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_on_input(const moe_int_view *v, int64_t arg);

/* experts.c: elements inside the experts. */
int64_t moe_int_count_act(const moe_int_view *v, int64_t act);
int64_t moe_int_count_relu(const moe_int_view *v, int64_t sign);
int64_t moe_int_count_clamp(const moe_int_view *v, int64_t side);
int64_t moe_int_count_gelu_erf(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_interleaved(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_bias(const moe_int_view *v, int64_t id);
int64_t moe_int_count_shared(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_shared_gate(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_not_finite(const moe_int_view *v, int64_t inject);
int64_t moe_int_count_outliers(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_exact(const moe_int_view *v, int64_t arg);
int64_t moe_int_count_forward_only(const moe_int_view *v, int64_t arg);

/* Sides of swiglu_clamp's clamp: `side` of moe_int_count_clamp. */
typedef enum moe_int_clamp_side {
    MOE_INT_GATE_ABOVE,
    MOE_INT_GATE_BELOW, /* which is not clamped */
    MOE_INT_UP_ABOVE,
    MOE_INT_UP_BELOW,
    MOE_INT_GATE_ON, /* exactly on the limit, in a case in which H is exact */
    MOE_INT_UP_ON_HIGH,
    MOE_INT_UP_ON_LOW
} moe_int_clamp_side;

#endif
