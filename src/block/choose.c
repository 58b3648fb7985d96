/* From a block's logits to its plan, and from the weights' gradients back. Scores, weights and
 * their gradients are those of src/route; what differs here is which pairs there are. */
#include "block/block.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A list of pairs that grows up to its room. */
typedef struct pair_list {
    int32_t *token, *expert;
    int64_t n;
} pair_list;

static moe_status pairs_alloc(int64_t room, pair_list *ret) {
    ret->n = 0;
    ret->token = malloc((size_t)(room + 1) * sizeof *ret->token);
    ret->expert = malloc((size_t)(room + 1) * sizeof *ret->expert);
    return ret->token && ret->expert ? MOE_OK : MOE_E_NOMEM;
}

static void add(pair_list *pairs, int64_t token, int64_t expert) {
    pairs->token[pairs->n] = (int32_t)token;
    pairs->expert[pairs->n++] = (int32_t)expert;
}

static void pairs_free(pair_list *pairs) {
    free(pairs->token);
    free(pairs->expert);
}

/* The row of logits that a token's expert scores come from. Doge's code cuts [T][2 keys] into two
 * halves of T rows each, not each row into two: half h of token t begins at key (h T + t) keys. */
static const double *half(const moe_block *b, const double *logits, int h, int64_t t) {
    return logits + (h * b->T + t) * b->keys;
}

/* [T][classes]: for product keys the sums of all pairs of keys, else a copy. NULL without memory.
 */
static double *class_logits(const moe_block *b, const double *logits) {
    const int64_t n = moe_int_block_classes(b);
    double *z = malloc((size_t)(b->T * n) * sizeof *z);
    if (!z)
        return NULL;
    if (b->choice != MOE_INT_CHOICE_PRODUCT_KEYS)
        return memcpy(z, logits, (size_t)(b->T * n) * sizeof *z);
    for (int64_t t = 0; t < b->T; t++)
        for (int64_t e = 0; e < n; e++)
            z[t * n + e] = half(b, logits, 0, t)[e / b->keys] + half(b, logits, 1, t)[e % b->keys];
    return z;
}

static moe_status choose_by_ids(const moe_block *b, pair_list *ret) {
    const int64_t K = b->layer.K;
    moe_status status = pairs_alloc(b->T * K, ret);
    for (int64_t i = 0; !status && i < b->T * K; i++)
        add(ret, i / K, b->expert_of_id[b->token_id[i / K] * K + i % K]);
    return status;
}

static int64_t best_of(const double *z, int64_t n, int64_t except) {
    int64_t best = -1;
    for (int64_t e = 0; e < n; e++)
        if (e != except && (best < 0 || z[e] > z[best]))
            best = e;
    return best;
}

/* Fairseq's top 2. A second choice stands behind all first ones of its expert, and behind the
 * second ones of earlier tokens, whether those were taken or not. */
static moe_status choose_in_stages(const moe_block *b, const double *z, pair_list *ret) {
    const int64_t n = b->layer.E, limit = b->layer.router.capacity;
    int64_t *waiting = calloc((size_t)n, sizeof *waiting);
    moe_status status = pairs_alloc(2 * b->T, ret);
    if (!waiting)
        status = MOE_E_NOMEM;
    for (int stage = 0; !status && stage < 2; stage++) {
        for (int64_t t = 0; t < b->T; t++) {
            int64_t e = best_of(z + t * n, n, -1);
            if (stage == 1)
                e = best_of(z + t * n, n, e);
            if (waiting[e]++ < limit)
                add(ret, t, e);
        }
    }
    free(waiting);
    return status;
}

/* The router's choice among the experts that are not sinks, then all sinks. */
static moe_status choose_with_sinks(const moe_block *b, const double *z, const moe_log *log,
                                    pair_list *ret) {
    const int64_t n = b->layer.E, routed = n - b->sinks;
    moe_layer_desc desc = b->layer;
    moe_plan *plan = NULL;
    double *some = malloc((size_t)(b->T * routed + 1) * sizeof *some);
    desc.E = routed;
    desc.K = b->layer.K - b->sinks;
    for (int64_t t = 0; some && t < b->T; t++)
        memcpy(some + t * routed, z + t * n, (size_t)routed * sizeof *some);
    moe_status status =
        some ? moe_route(&desc, b->T, some, b->b_select.data, 0, log, &plan) : MOE_E_NOMEM;
    if (!status)
        status = pairs_alloc(plan->n_pairs + b->T * b->sinks, ret);
    for (int64_t e = 0; !status && e < routed; e++)
        for (int64_t row = plan->offsets[e]; row < plan->offsets[e + 1]; row++)
            add(ret, plan->token[row], e);
    for (int64_t i = 0; !status && i < b->T * b->sinks; i++)
        add(ret, i / b->sinks, routed + i % b->sinks);
    free(some);
    moe_plan_destroy(&plan);
    return status;
}

static moe_status make_plan(const moe_block *b, const double *z, const moe_log *log,
                            moe_plan **ret) {
    pair_list pairs = {0};
    moe_status status;
    if (b->choice == MOE_INT_CHOICE_TOKEN_IDS)
        status = choose_by_ids(b, &pairs);
    else if (b->choice == MOE_INT_CHOICE_TWO_STAGES)
        status = choose_in_stages(b, z, &pairs);
    else if (b->sinks)
        status = choose_with_sinks(b, z, log, &pairs);
    else
        return moe_route(&b->layer, b->T, z, b->b_select.data, 0, log, ret);
    if (!status)
        status = moe_plan_create(b->T, moe_int_block_classes(b), pairs.n, pairs.token, pairs.expert,
                                 NULL, log, ret);
    pairs_free(&pairs);
    return status ? status : moe_route_weigh(&b->layer, z, *ret);
}

/* What multiplies the weights of an expert; one number for all, or one each. */
static double scale_of(const moe_block *b, int64_t expert) {
    const double *scale = b->scale.data;
    return !scale ? 1 : scale[b->scale.shape[0] == 1 ? 0 : expert];
}

moe_status moe_int_block_choose(moe_block *b, const double *logits, const moe_log *log) {
    double *z = class_logits(b, logits);
    moe_status status = z ? make_plan(b, z, log, &b->plan) : MOE_E_NOMEM;
    free(z);
    if (status)
        return status;
    b->pair_weight = malloc((size_t)(b->plan->n_pairs + 1) * sizeof *b->pair_weight);
    if (!b->pair_weight)
        return MOE_E_NOMEM;
    for (int64_t e = 0; e < b->plan->n_experts; e++) {
        for (int64_t row = b->plan->offsets[e]; row < b->plan->offsets[e + 1]; row++) {
            b->pair_weight[row] = b->plan->weight[row];
            b->plan->weight[row] *= e < b->layer.E ? scale_of(b, e) : 0;
        }
    }
    return MOE_OK;
}

/* Gradient of `scale`: ret is 0 before. */
static void add_dscale(const moe_block *b, const double *dS, double *ret) {
    for (int64_t e = 0; e < b->layer.E; e++)
        for (int64_t row = b->plan->offsets[e]; row < b->plan->offsets[e + 1]; row++)
            ret[b->scale.shape[0] == 1 ? 0 : e] += dS[row] * b->pair_weight[row];
}

moe_status moe_int_block_unscale(const moe_block *b, const double *dS, moe_int_class_weights *ret) {
    ret->logits = class_logits(b, moe_int_trace_end(&b->chain[MOE_INT_PLACE_ROUTER], &b->router));
    ret->gradient = calloc((size_t)(b->plan->n_pairs + 1), sizeof *ret->gradient);
    if (!ret->logits || !ret->gradient)
        return MOE_E_NOMEM;
    for (int64_t e = 0; e < b->layer.E; e++)
        for (int64_t row = b->plan->offsets[e]; row < b->plan->offsets[e + 1]; row++)
            ret->gradient[row] = dS[row] * scale_of(b, e);
    return MOE_OK;
}

void moe_int_class_weights_free(moe_int_class_weights *w) {
    free(w->logits);
    free(w->gradient);
}

/* Sums of the classes' gradients over the keys that each is made of. */
static void to_keys(const moe_block *b, const double *dz, double *ret) {
    const int64_t n = moe_int_block_classes(b);
    memset(ret, 0, (size_t)(b->T * 2 * b->keys) * sizeof *ret);
    for (int64_t t = 0; t < b->T; t++) {
        double *dx = ret + t * b->keys, *dy = ret + (b->T + t) * b->keys;
        for (int64_t e = 0; e < n; e++) {
            dx[e / b->keys] += dz[t * n + e];
            dy[e % b->keys] += dz[t * n + e];
        }
    }
}

moe_status moe_int_block_to_columns(const moe_block *b, double **dz) {
    if (b->choice != MOE_INT_CHOICE_PRODUCT_KEYS)
        return MOE_OK;
    double *keys = malloc((size_t)(b->T * 2 * b->keys) * sizeof *keys);
    if (!keys)
        return MOE_E_NOMEM;
    to_keys(b, *dz, keys);
    free(*dz);
    *dz = keys;
    return MOE_OK;
}

moe_status moe_int_block_unchoose(const moe_block *b, const double *dS, moe_tensor *ret_dscale,
                                  double **ret_d_logits) {
    moe_int_class_weights w = {0};
    double *dz = malloc((size_t)(b->T * moe_int_block_classes(b)) * sizeof *dz);
    moe_status status = dz ? moe_int_block_unscale(b, dS, &w) : MOE_E_NOMEM;
    if (!status && b->scale.data)
        status = moe_tensor_alloc(MOE_F64, 1, b->scale.shape, ret_dscale);
    if (!status && b->scale.data)
        add_dscale(b, dS, ret_dscale->data);
    if (!status)
        status = moe_route_backward(&b->layer, w.logits, b->plan, w.gradient, dz);
    if (!status)
        status = moe_int_block_to_columns(b, &dz);
    moe_int_class_weights_free(&w);
    if (status)
        free(dz);
    else
        *ret_d_logits = dz;
    return status;
}
