/* The routing plan: what every router makes and every backend consumes.
 *
 * Pairs (token, expert) are sorted by expert and, within an expert, by token. Nothing may assume K
 * pairs per token: a token may have none, or as many as there are experts. */
#ifndef MOEREF_PLAN_H
#define MOEREF_PLAN_H

#include "moeref/call.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Plain data so that a backend can upload it; treat a plan made here as read-only.
 * Bins 0..E-1 are the real experts, E..n_experts-1 zero experts.
 * Thread-safety: plain data. */
typedef struct moe_plan {
    int64_t n_tokens;
    int64_t n_experts;      /* E + n_zero */
    int64_t n_pairs;        /* all pairs, zero experts' included */
    int64_t *offsets;       /* [n_experts + 1]; expert e has rows offsets[e] .. offsets[e+1] */
    int32_t *token;         /* [n_pairs] */
    double *weight;         /* [n_pairs] combine weights */
    int64_t *token_offsets; /* [n_tokens + 1] */
    int64_t *pair_of_token; /* [n_pairs] a token's rows, in ascending expert order */
} moe_plan;

/* Builds a plan from unordered pairs; arrays are copied. weight NULL means 1.
 * MOE_E_INVALID: an index out of range or the same (token, expert) twice. */
MOE_API moe_status moe_plan_create(int64_t n_tokens, int64_t n_experts, int64_t n_pairs,
                                   const int32_t *token, const int32_t *expert,
                                   const double *weight, const moe_log *log, moe_plan **ret);

MOE_API void moe_plan_destroy(moe_plan **plan);

/* MOE_E_NOMEM. */
MOE_API moe_status moe_plan_copy(const moe_plan *plan, moe_plan **ret);

/* The plan of the listed tokens alone (row i of the result is tokens[i], all different). */
MOE_API moe_status moe_plan_subset(const moe_plan *plan, const int64_t *tokens, int64_t count,
                                   moe_plan **ret);

/* Checks a plan that came from outside (a backend, a file): monotone offsets, tokens in range and
 * ascending within an expert, inverse map consistent. */
MOE_API moe_status moe_plan_check(const moe_plan *plan, const moe_log *log);

/* The plan as slots, [n_tokens][columns] int64: a token's experts in ascending order, -1 in slots
 * that stay empty. There are `columns` of them, or as many as the token with the most experts has.
 * The caller frees *ret. */
MOE_API moe_status moe_plan_slots(const moe_plan *plan, int64_t columns, moe_tensor *ret);

/* ---- slots: [T][columns] views in host memory, see moe_call ---- */

/* The plan of the slots that are not empty. `weight` may have any floating dtype; absent: all
 * are 1. MOE_E_INVALID: an expert twice for one token. */
MOE_API moe_status moe_plan_of_slots(const moe_view *index, const moe_view *weight,
                                     int64_t n_experts, const moe_log *log, moe_plan **ret);
/* The experts of each token in ascending order, -1 after them. An absent view is left alone. */
MOE_API moe_status moe_plan_index_slots(const moe_plan *plan, const moe_view *ret_index,
                                        const moe_log *log);
/* values [n_pairs] to the slots of their pairs, 0 to empty ones. `index` says which slot is whose;
 * NULL: as moe_plan_index_slots makes them. */
MOE_API moe_status moe_plan_fill_slots(const moe_plan *plan, const moe_view *index,
                                       const moe_tensor *values, const moe_view *ret,
                                       const moe_log *log);
/* The way back: the value of each pair's slot. */
MOE_API moe_status moe_plan_take_slots(const moe_plan *plan, const moe_view *index,
                                       const moe_view *slots, moe_tensor *ret_values,
                                       const moe_log *log);
/* Slots that a token needs if the layer's router chooses: K, or as many as there are experts where
 * the rule does not say. */
MOE_API int64_t moe_route_columns(const moe_layer_desc *desc);

/* Runs the router of `desc` on logits z [T][E+n_zero] (float64, bias included); b_select may be
 * NULL. `seed` matters to stochastic token rounding only. */
MOE_API moe_status moe_route(const moe_layer_desc *desc, int64_t tokens, const double *logits,
                             const double *b_select, uint64_t seed, const moe_log *log,
                             moe_plan **ret);

/* Sets plan->weight from the logits, keeping the plan's choice of experts (which need not be the
 * router's own: a choice inside the rounding margin is judged this way). */
MOE_API moe_status moe_route_weigh(const moe_layer_desc *desc, const double *logits,
                                   moe_plan *plan);

/* Gradient of the logits, dz [T][E+n_zero] (overwritten), from dS [n_pairs] in plan order: through
 * scale, renormalisation and score; never through the choice. */
MOE_API moe_status moe_route_backward(const moe_layer_desc *desc, const double *logits,
                                      const moe_plan *plan, const double *d_weight,
                                      double *ret_d_logits);

/* The scores that moe_route chooses by, [T][E+n_zero]: z or score(z), plus b_select. */
MOE_API void moe_route_selection_scores(const moe_layer_desc *desc, int64_t tokens,
                                        const double *logits, const double *b_select,
                                        double *ret_scores);

#ifdef __cplusplus
}
#endif
#endif
