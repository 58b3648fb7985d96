/* The router's pipeline over tokens: score, choose, weigh; and backward through the weights. */
#include "route/route.h"

#include <stdlib.h>
#include <string.h>

static int64_t outputs_of(const moe_layer_desc *desc) {
    return desc->E + desc->n_zero;
}

/* Where a token compares its own experts by a score that keeps the order of the logits, logits
 * decide: they do not underflow or saturate into ties. */
static bool chooses_by_logits(const moe_layer_desc *desc) {
    const moe_router_desc *r = &desc->router;
    const bool by_order = moe_int_selects[r->select].by_order;
    return !moe_int_scores[r->score].selection || (by_order && !r->select_bias);
}

void moe_route_selection_scores(const moe_layer_desc *desc, int64_t tokens, const double *logits,
                                const double *b_select, double *ret_scores) {
    int64_t n = outputs_of(desc);
    for (int64_t t = 0; t < tokens; t++) {
        const double *z = logits + t * n;
        double *score = ret_scores + t * n;
        if (chooses_by_logits(desc))
            memcpy(score, z, (size_t)n * sizeof *score);
        else
            moe_int_scores[desc->router.score].selection(&desc->router, z, n, score);
        for (int64_t i = 0; b_select && i < n; i++)
            score[i] += b_select[i];
    }
}

/* A token's experts in the plan, and scratch for their weights. */
typedef struct token_work {
    moe_int_token_set set;
    unsigned char *chosen; /* [n] */
    double *w, *dw;        /* raw weights of the set, and their gradients, [n] */
    int64_t *row;          /* [n] plan row of an expert, -1 if not in the plan */
} token_work;

static moe_status token_work_alloc(int64_t n, token_work *k) {
    memset(k, 0, sizeof *k);
    k->set.expert = calloc((size_t)n, sizeof *k->set.expert);
    k->set.mark = calloc((size_t)n, 1);
    k->chosen = calloc((size_t)n, 1);
    k->w = calloc((size_t)n, sizeof *k->w);
    k->dw = calloc((size_t)n, sizeof *k->dw);
    k->row = malloc((size_t)n * sizeof *k->row);
    if (!k->set.expert || !k->set.mark || !k->chosen || !k->w || !k->dw || !k->row)
        return MOE_E_NOMEM;
    for (int64_t i = 0; i < n; i++)
        k->row[i] = -1;
    return MOE_OK;
}

static void token_work_destroy(token_work *k) {
    free(k->set.expert);
    free(k->set.mark);
    free(k->chosen);
    free(k->w);
    free(k->dw);
    free(k->row);
}

/* Marks (on) or unmarks token t's experts. */
static void mark_token(const moe_plan *plan, int64_t t, bool on, token_work *k) {
    for (int64_t i = plan->token_offsets[t]; i < plan->token_offsets[t + 1]; i++) {
        int64_t row = plan->pair_of_token[i];
        int64_t e = moe_int_plan_expert_of(plan, row);
        k->chosen[e] = (unsigned char)on;
        k->row[e] = on ? row : -1;
    }
}

/* The set that token t's weights depend on, best logit first, then the experts that token rounding
 * added. */
static void collect_set(const moe_layer_desc *desc, const double *z, const moe_plan *plan,
                        int64_t t, token_work *k) {
    int64_t n = plan->n_experts, count = plan->token_offsets[t + 1] - plan->token_offsets[t];
    if (!moe_int_selects[desc->router.select].norm_over_topk) {
        k->set.n_norm = k->set.n = moe_int_topk(z, k->chosen, n, count, k->set.expert);
        return;
    }
    k->set.n_norm = k->set.n = moe_int_topk(z, NULL, n, desc->K, k->set.expert);
    for (int64_t i = 0; i < k->set.n_norm; i++)
        k->chosen[k->set.expert[i]] = 0;
    for (int64_t e = 0; e < n; e++)
        if (k->chosen[e])
            k->set.expert[k->set.n++] = (int32_t)e;
}

static double norm_of(const moe_router_desc *r, const token_work *k) {
    double sum = r->renorm_eps;
    for (int64_t i = 0; i < k->set.n_norm; i++)
        sum += k->w[i];
    return sum;
}

/* weight = scale * raw, divided by the sum over the normalised part of the set. */
static void weigh_token(const moe_layer_desc *desc, const double *z, int64_t t, moe_plan *plan,
                        token_work *k) {
    const moe_router_desc *r = &desc->router;
    mark_token(plan, t, true, k);
    collect_set(desc, z, plan, t, k);
    moe_int_scores[r->score].weigh(r, z, plan->n_experts, &k->set, k->w);
    double norm = norm_of(r, k);
    for (int64_t i = 0; i < k->set.n; i++) {
        int64_t row = k->row[k->set.expert[i]];
        double w = r->renorm && i < k->set.n_norm ? k->w[i] / norm : k->w[i];
        if (row >= 0)
            plan->weight[row] = r->scale * w;
    }
    mark_token(plan, t, false, k);
}

/* With w_i = c r_i / Z, Z = eps + sum r: dr_i = c (g_i / Z - sum_j g_j r_j / Z^2). */
static void backward_token(const moe_layer_desc *desc, const double *z, int64_t t,
                           const moe_plan *plan, const double *d_weight, token_work *k,
                           double *dz) {
    const moe_router_desc *r = &desc->router;
    mark_token(plan, t, true, k);
    collect_set(desc, z, plan, t, k);
    moe_int_scores[r->score].weigh(r, z, plan->n_experts, &k->set, k->w);
    double norm = r->renorm ? norm_of(r, k) : 1, dot = 0;
    for (int64_t i = 0; i < k->set.n; i++) {
        int64_t row = k->row[k->set.expert[i]];
        k->dw[i] = row >= 0 ? r->scale * d_weight[row] : 0;
        if (i < k->set.n_norm)
            dot += k->dw[i] * k->w[i];
    }
    for (int64_t i = 0; r->renorm && i < k->set.n_norm; i++)
        k->dw[i] = k->dw[i] / norm - dot / (norm * norm);
    moe_int_scores[r->score].backward(r, z, plan->n_experts, &k->set, k->w, k->dw, dz);
    mark_token(plan, t, false, k);
}

moe_status moe_route_weigh(const moe_layer_desc *desc, const double *logits, moe_plan *plan) {
    token_work k;
    moe_status status = token_work_alloc(plan->n_experts, &k);
    for (int64_t t = 0; !status && t < plan->n_tokens; t++)
        weigh_token(desc, logits + t * plan->n_experts, t, plan, &k);
    token_work_destroy(&k);
    return status;
}

/* Tokens first ... end. */
static moe_status backward_tokens(const moe_layer_desc *desc, const double *logits,
                                  const moe_plan *plan, const double *d_weight, int64_t first,
                                  int64_t end, double *ret_d_logits) {
    const int64_t n = plan->n_experts;
    token_work k;
    moe_status status = token_work_alloc(n, &k);
    for (int64_t t = first; !status && t < end; t++)
        backward_token(desc, logits + t * n, t, plan, d_weight, &k, ret_d_logits + t * n);
    token_work_destroy(&k);
    return status;
}

moe_status moe_route_backward(const moe_layer_desc *desc, const double *logits,
                              const moe_plan *plan, const double *d_weight, double *ret_d_logits) {
    enum { MANY = 1 << 18, PART = 256 }; /* logits worth a team of threads; tokens of each */
    const int64_t T = plan->n_tokens, n = plan->n_experts;
    bool failed = false;
    memset(ret_d_logits, 0, (size_t)(T * n) * sizeof *ret_d_logits);
    if (T * n < MANY)
        return backward_tokens(desc, logits, plan, d_weight, 0, T, ret_d_logits);
#pragma omp parallel for schedule(static) reduction(|| : failed)
    for (int64_t t = 0; t < T; t += PART)
        failed = backward_tokens(desc, logits, plan, d_weight, t, t + PART < T ? t + PART : T,
                                 ret_d_logits) != MOE_OK ||
                 failed;
    return failed ? MOE_E_NOMEM : MOE_OK; /* nothing else can fail */
}

moe_status moe_route(const moe_layer_desc *desc, int64_t tokens, const double *logits,
                     const double *b_select, uint64_t seed, const moe_log *log, moe_plan **ret) {
    int64_t n = outputs_of(desc);
    double *scores = malloc((size_t)(tokens * n) * sizeof *scores);
    moe_int_pairs pairs = {0};
    moe_plan *plan = NULL;
    moe_status status = scores ? MOE_OK : MOE_E_NOMEM;
    if (!status) {
        moe_route_selection_scores(desc, tokens, logits, b_select, scores);
        moe_int_selection in = {desc, tokens, n, scores, seed, log};
        status = moe_int_selects[desc->router.select].choose(&in, &pairs);
    }
    if (!status)
        status =
            moe_plan_create(tokens, n, pairs.count, pairs.token, pairs.expert, NULL, log, &plan);
    if (!status)
        status = moe_route_weigh(desc, logits, plan);
    if (status == MOE_E_NOMEM)
        moe_fail(log, status, "no memory to route %lld tokens", (long long)tokens);
    free(scores);
    moe_int_pairs_destroy(&pairs);
    if (status)
        moe_plan_destroy(&plan);
    else
        *ret = plan;
    return status;
}
