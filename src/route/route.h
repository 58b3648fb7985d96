/* Internal to src/route: the two tables that make a router, and the pairs they produce.
 *
 * A router is a row of `moe_int_scores` (how logits become weights, and back) and a row of
 * `moe_int_selects` (how experts are chosen). A new paper's router is a new row in one of them. */
#ifndef MOE_ROUTE_ROUTE_H
#define MOE_ROUTE_ROUTE_H

#include "moeref/plan.h"

/* Expert of a pair row. */
int64_t moe_int_plan_expert_of(const moe_plan *plan, int64_t row);

/* A growing list of chosen (token, expert) pairs. */
typedef struct moe_int_pairs {
    int32_t *token, *expert;
    int64_t count, room;
} moe_int_pairs;

moe_status moe_int_pairs_add(moe_int_pairs *pairs, int64_t token, int64_t expert);
void moe_int_pairs_destroy(moe_int_pairs *pairs);

/* The experts that one token's weights depend on: `n_norm` of them take part in normalisation (the
 * router's own top-K), the rest (added by token rounding) do not. */
typedef struct moe_int_token_set {
    int32_t *expert;
    int64_t n_norm, n;
    unsigned char *mark; /* [E + n_zero] room for a row of the score table, left as found: 0 */
} moe_int_token_set;

typedef struct moe_int_score {
    /* Scores that the choice is made by, [n]; NULL: the logits themselves. */
    void (*selection)(const moe_router_desc *r, const double *z, int64_t n, double *ret);
    /* Raw weight of every expert in `set`, ret[set->n]. */
    void (*weigh)(const moe_router_desc *r, const double *z, int64_t n,
                  const moe_int_token_set *set, double *ret);
    /* Adds to dz[n] the gradient that arrives as dw[set->n] at the raw weights w[set->n]. */
    void (*backward)(const moe_router_desc *r, const double *z, int64_t n,
                     const moe_int_token_set *set, const double *w, const double *dw, double *dz);
} moe_int_score;

extern const moe_int_score moe_int_scores[MOE_SCORE_COUNT];

/* What a selection sees: scores [T][n], n = E + n_zero, with b_select added. */
typedef struct moe_int_selection {
    const moe_layer_desc *desc;
    int64_t tokens, n;
    const double *scores;
    uint64_t seed;
    const moe_log *log;
} moe_int_selection;

typedef struct moe_int_select {
    moe_status (*choose)(const moe_int_selection *in, moe_int_pairs *ret);
    /* Weights are normalised over the token's top-K, whichever pairs were kept or added. */
    bool norm_over_topk;
    /* Compares one token's scores with each other, so that their order is all that counts. */
    bool by_order;
} moe_int_select;

extern const moe_int_select moe_int_selects[MOE_SELECT_COUNT];

/* The k best of score[n], best first; ties go to the lower index; NaN ranks below every number.
 * Entries with allowed[i] == 0 are passed over (allowed NULL: none are). Returns how many. */
int64_t moe_int_topk(const double *score, const unsigned char *allowed, int64_t n, int64_t k,
                     int32_t *ret);

/* One column of scores with its indices, to be ranked as moe_int_topk ranks, all of it. */
typedef struct moe_int_ranked {
    double score;
    int32_t index;
} moe_int_ranked;

void moe_int_rank(moe_int_ranked *column, int64_t n);

/* Group-limited top-K (DeepSeek-V3, arXiv 2412.19437) of one token: a group's score is the sum of
 * its two best experts' scores (with group_max the best one's); experts outside the best groups are
 * not allowed[n]. */
void moe_int_mask_groups(const moe_int_selection *in, const double *score, unsigned char *allowed);

moe_status moe_int_choose_token_rounding(const moe_int_selection *in, moe_int_pairs *ret);

/* Warns where experts have half a tile of tokens or less on average. */
void moe_int_warn_rounding(int32_t tile, int64_t pairs, int64_t experts, const moe_log *log);

/* Rounded token counts f'[n] from counts f[n] (SonicMoE, section on token rounding). */
moe_status moe_int_round_counts(int32_t rule, int64_t tile, uint64_t seed, const int64_t *f,
                                int64_t n, int64_t max, int64_t *ret);

#endif
