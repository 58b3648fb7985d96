/* What a model's block has around an MoE layer: norms, projections, a router network of its own,
 * experts that token ids name. A block's problem is its experts alone, through a given plan, so
 * that every backend can run them; the rest is here, in float64, forward and backward.
 *
 *     r = router(x), logits                      plan = choice(logits), weights
 *     h = before(x)                              the problem: O' = experts(h, plan)
 *     u = O', or per pair: sum of weight pair(Y) O = out(after(u) + shared(x))
 *
 * Widths: x, O and shared are d wide, h and u `latent`, r what the router's last map takes. */
#ifndef MOE_BLOCK_BLOCK_H
#define MOE_BLOCK_BLOCK_H

#include "block/chain.h"
#include "moeref/case.h"

#include <stdbool.h>

/* How a token's experts are chosen. */
typedef enum moe_int_choice {
    MOE_INT_CHOICE_LAYER,       /* as layer.h's router says */
    MOE_INT_CHOICE_TOKEN_IDS,   /* by a table, DeepSeek-V4; weights are the router's */
    MOE_INT_CHOICE_TWO_STAGES,  /* NLLB: all first choices come before all second ones, and an
                                   expert takes `capacity` of both */
    MOE_INT_CHOICE_PRODUCT_KEYS /* Doge: expert i * keys + j scores x_i + y_j */
} moe_int_choice;

/* Chains of maps, in the order of the drawing above. */
typedef enum moe_int_place {
    MOE_INT_PLACE_ROUTER,
    MOE_INT_PLACE_BEFORE,
    MOE_INT_PLACE_PAIR,
    MOE_INT_PLACE_AFTER,
    MOE_INT_PLACE_OUT,
    MOE_INT_PLACE_COUNT
} moe_int_place;

/* Results of a block, and golden ones; float64, data NULL: absent. */
typedef struct moe_int_block_result {
    moe_tensor O, dX;   /* [T][d] */
    moe_tensor logits;  /* [T][classes], or of product keys [T][2 keys] */
    moe_tensor weight;  /* [T][classes], 0 where not chosen */
    moe_tensor state;   /* [T][width], a router's own state for the next layer */
    moe_tensor dS;      /* [all pairs] of the weights, `scale` included */
    moe_tensor dscale;  /* [1] or [E]: of what multiplies the weights */
    moe_tensors shared; /* dW1_shared and dW2_shared */
    moe_int_chain_gradients chain[MOE_INT_PLACE_COUNT];
} moe_int_block_result;

typedef struct moe_block {
    moe_layer_desc layer; /* the model's: its router chooses among E + n_zero classes, and pairs of
                             the class after the experts are dropped */
    int64_t T, latent;
    moe_int_choice choice;
    int64_t keys;        /* product keys */
    int64_t sinks;       /* experts after the first E - sinks that every token has; they share the
                            sum that the weights are divided by */
    bool report_softmax; /* the router module hands out softmax(logits) */
    bool report_sorted;  /* and its weights without experts: a token's, largest first */
    bool forward_only;
    moe_int_chain chain[MOE_INT_PLACE_COUNT];
    moe_tensor scale;      /* [1], or [E] one for each expert: multiplies the weights; or absent */
    moe_tensor b_select;   /* [classes] or absent */
    moe_tensors shared;    /* W1_shared and W2_shared of layer.n_shared, or none; float64 */
    int32_t shared_act;    /* moe_act */
    int32_t *expert_of_id; /* [ids][K] and the batch's [T]; token ids */
    int64_t ids;
    int64_t *token_id;
    moe_tensor X, dO; /* [T][d] float64; dO may be absent */

    moe_int_block_result want; /* what the family's own code made of them; dense weights too */
    int state_at;              /* result of so many of the router's maps is its state; 0: none */

    /* What the forward pass made of X, before the experts. */
    moe_int_trace router, before;
    double *pair_weight; /* [all pairs] before `scale` */
    moe_plan *plan;      /* over all classes */
} moe_block;

/* The block's experts alone, which are the problem's layer. */
moe_layer_desc moe_int_block_experts(const moe_block *block);
/* Are the problem's X and dO the block's own? Else they are float64. */
bool moe_int_block_keeps_inputs(const moe_block *block);

/* Routes, and makes the problem of the experts: fills its T, plan, X and dO. p has its layer,
 * parameters, dtype and pass; the block becomes p's. */
moe_status moe_int_block_enter(moe_block *block, const moe_log *log, moe_problem *p);

/* The block's results from the problem's O, dX and dS; data NULL of the latter: forward alone.
 * *ret is to be freed, also on failure. MOE_E_NOMEM. */
moe_status moe_int_block_leave(const moe_block *block, const moe_problem *p,
                               const moe_tensors *core, const moe_log *log,
                               moe_int_block_result *ret);

/* dO' of the problem, from the experts' output and the block's dO. */
moe_status moe_int_block_back(const moe_block *block, const moe_tensors *core, const moe_log *log,
                              moe_tensor *ret);

void moe_int_block_result_destroy(moe_int_block_result *r);
void moe_int_block_destroy(moe_block *block);

/* Has each pair its own row of output, to be changed before the weight? Then the problem's tokens
 * are the pairs. */
static inline bool moe_int_block_is_by_pairs(const moe_block *b) {
    return b->chain[MOE_INT_PLACE_PAIR].n > 0;
}
/* Pairs that an expert computes; they come first in the plan. */
static inline int64_t moe_int_block_pairs(const moe_block *b) {
    return b->plan->offsets[b->layer.E];
}

/* choose.c: block->plan with its weights, and pair_weight; and back to [T][columns of logits],
 * which the caller frees. dS is of all pairs. MOE_E_NOMEM. */
moe_status moe_int_block_choose(moe_block *block, const double *logits, const moe_log *log);
moe_status moe_int_block_unchoose(const moe_block *block, const double *dS, moe_tensor *ret_dscale,
                                  double **ret_d_logits);

/* What the way back from the weights to the classes' logits starts from. */
typedef struct moe_int_class_weights {
    double *logits;   /* [T][classes] */
    double *gradient; /* [all pairs] of the weights before `scale`; 0 without an expert */
} moe_int_class_weights;
/* *ret is to be freed, also on failure. MOE_E_NOMEM. */
moe_status moe_int_block_unscale(const moe_block *block, const double *dS,
                                 moe_int_class_weights *ret);
void moe_int_class_weights_free(moe_int_class_weights *w);
/* *dz [T][classes] to [T][columns of logits]. Classes that share a key add up, be it gradients or
 * variances. MOE_E_NOMEM. */
moe_status moe_int_block_to_columns(const moe_block *block, double **dz);
/* report.c: logits, weights and state, as the router module hands them out. */
moe_status moe_int_block_report(const moe_block *block, moe_int_block_result *ret);
/* Classes of the choice: experts, and the one without. */
static inline int64_t moe_int_block_classes(const moe_block *b) {
    return b->layer.E + b->layer.n_zero;
}
/* Columns of the logits. */
static inline int64_t moe_int_block_columns(const moe_block *b) {
    return b->choice == MOE_INT_CHOICE_PRODUCT_KEYS ? 2 * b->keys : moe_int_block_classes(b);
}

#endif
