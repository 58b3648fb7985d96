/* From logits to combine weights, and back: one row of a table per kind of score.
 *
 * z[n] are one token's logits. Gradients pass through the score, never through the choice. */
#include "route/route.h"

#include <math.h>

static double max_of(const double *z, int64_t n) {
    double best = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        if (z[i] > best)
            best = z[i];
    return best;
}

/* softmax over all experts -------------------------------------------------------------------- */

static void softmax_all(const moe_router_desc *r, const double *z, int64_t n, double *ret) {
    (void)r;
    double top = max_of(z, n), sum = 0;
    for (int64_t i = 0; i < n; i++) {
        ret[i] = exp(z[i] - top);
        sum += ret[i];
    }
    for (int64_t i = 0; i < n; i++)
        ret[i] /= sum;
}

/* log of the softmax denominator, so that p_i = exp(z_i - this). */
static double log_sum_exp(const double *z, int64_t n) {
    double top = max_of(z, n), sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += exp(z[i] - top);
    return top + log(sum);
}

static void softmax_weigh(const moe_router_desc *r, const double *z, int64_t n,
                          const moe_int_token_set *set, double *ret) {
    (void)r;
    double top = max_of(z, n), sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += exp(z[i] - top);
    for (int64_t k = 0; k < set->n; k++)
        ret[k] = exp(z[set->expert[k]] - top) / sum;
}

/* dz_j = p_j (ds_j - sum_k p_k ds_k): every logit gets a gradient, chosen or not. */
static void softmax_backward(const moe_router_desc *r, const double *z, int64_t n,
                             const moe_int_token_set *set, const double *w, const double *dw,
                             double *dz) {
    (void)r;
    double dot = 0, norm = log_sum_exp(z, n);
    for (int64_t k = 0; k < set->n; k++)
        dot += w[k] * dw[k];
    for (int64_t j = 0; j < n; j++)
        dz[j] -= exp(z[j] - norm) * dot;
    for (int64_t k = 0; k < set->n; k++)
        dz[set->expert[k]] += w[k] * dw[k];
}

/* softmax over the chosen K ------------------------------------------------------------------- */

static void softmax_topk_weigh(const moe_router_desc *r, const double *z, int64_t n,
                               const moe_int_token_set *set, double *ret) {
    (void)r;
    (void)n;
    double top = -INFINITY, sum = 0;
    for (int64_t k = 0; k < set->n; k++)
        if (z[set->expert[k]] > top)
            top = z[set->expert[k]];
    for (int64_t k = 0; k < set->n; k++) {
        ret[k] = exp(z[set->expert[k]] - top);
        sum += ret[k];
    }
    for (int64_t k = 0; k < set->n; k++)
        ret[k] /= sum;
}

/* dz_k = s_k (ds_k - sum_j s_j ds_j) */
static void softmax_topk_backward(const moe_router_desc *r, const double *z, int64_t n,
                                  const moe_int_token_set *set, const double *w, const double *dw,
                                  double *dz) {
    (void)r;
    (void)z;
    (void)n;
    double dot = 0;
    for (int64_t k = 0; k < set->n; k++)
        dot += w[k] * dw[k];
    for (int64_t k = 0; k < set->n; k++)
        dz[set->expert[k]] += w[k] * (dw[k] - dot);
}

/* sigmoid ------------------------------------------------------------------------------------- */

static double sigmoid(double z) {
    return z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
}

static void sigmoid_all(const moe_router_desc *r, const double *z, int64_t n, double *ret) {
    (void)r;
    for (int64_t i = 0; i < n; i++)
        ret[i] = sigmoid(z[i]);
}

static void sigmoid_weigh(const moe_router_desc *r, const double *z, int64_t n,
                          const moe_int_token_set *set, double *ret) {
    (void)r;
    (void)n;
    for (int64_t k = 0; k < set->n; k++)
        ret[k] = sigmoid(z[set->expert[k]]);
}

static void sigmoid_backward(const moe_router_desc *r, const double *z, int64_t n,
                             const moe_int_token_set *set, const double *w, const double *dw,
                             double *dz) {
    (void)r;
    (void)z;
    (void)n;
    for (int64_t k = 0; k < set->n; k++)
        dz[set->expert[k]] += dw[k] * w[k] * (1 - w[k]);
}

/* scores of one logit alone ------------------------------------------------------------------- */

/* sqrt(softplus(z)), log(1 + e^z) without overflow. */
static double sqrt_softplus(double z) {
    return sqrt((z > 0 ? z : 0) + log1p(exp(-fabs(z))));
}

static void sqrt_softplus_all(const moe_router_desc *r, const double *z, int64_t n, double *ret) {
    (void)r;
    for (int64_t i = 0; i < n; i++)
        ret[i] = sqrt_softplus(z[i]);
}

static void sqrt_softplus_weigh(const moe_router_desc *r, const double *z, int64_t n,
                                const moe_int_token_set *set, double *ret) {
    (void)r;
    (void)n;
    for (int64_t k = 0; k < set->n; k++)
        ret[k] = sqrt_softplus(z[set->expert[k]]);
}

/* ds/dz = sigmoid(z) / (2 s) */
static void sqrt_softplus_backward(const moe_router_desc *r, const double *z, int64_t n,
                                   const moe_int_token_set *set, const double *w, const double *dw,
                                   double *dz) {
    (void)r;
    (void)n;
    for (int64_t k = 0; k < set->n; k++)
        dz[set->expert[k]] += w[k] > 0 ? dw[k] * sigmoid(z[set->expert[k]]) / (2 * w[k]) : 0;
}

static double sigmoid_cap(const moe_router_desc *r, double z) {
    return sigmoid(r->jitter * tanh(z / r->jitter));
}

static void sigmoid_cap_all(const moe_router_desc *r, const double *z, int64_t n, double *ret) {
    for (int64_t i = 0; i < n; i++)
        ret[i] = sigmoid_cap(r, z[i]);
}

static void sigmoid_cap_weigh(const moe_router_desc *r, const double *z, int64_t n,
                              const moe_int_token_set *set, double *ret) {
    (void)n;
    for (int64_t k = 0; k < set->n; k++)
        ret[k] = sigmoid_cap(r, z[set->expert[k]]);
}

static void sigmoid_cap_backward(const moe_router_desc *r, const double *z, int64_t n,
                                 const moe_int_token_set *set, const double *w, const double *dw,
                                 double *dz) {
    (void)n;
    for (int64_t k = 0; k < set->n; k++) {
        double t = tanh(z[set->expert[k]] / r->jitter);
        dz[set->expert[k]] += dw[k] * w[k] * (1 - w[k]) * (1 - t * t);
    }
}

/* SparseMixer (arXiv 2409.12136, evaluation mode) --------------------------------------------- */

/* Is expert j among the candidates of a pick? Earlier picks (marked) are out, and so is everything
 * that lies a relative 2*jitter below the best one left. */
static bool is_candidate(const moe_router_desc *r, const double *z, const moe_int_token_set *set,
                         double top, int64_t j) {
    if (set->mark[j])
        return false;
    double factor = fabs(z[j]) > top ? fabs(z[j]) : top;
    return !((top - z[j]) / factor > 2 * r->jitter);
}

static double best_left(const double *z, int64_t n, const moe_int_token_set *set) {
    double top = -INFINITY;
    for (int64_t j = 0; j < n; j++)
        if (!set->mark[j] && z[j] > top)
            top = z[j];
    return top;
}

static void clear_marks(const moe_int_token_set *set) {
    for (int64_t p = 0; p < set->n; p++)
        set->mark[set->expert[p]] = 0;
}

/* set->expert is in order of picking (moe_int_token_set of a top-K router, best first). */
static void sparsemixer_weigh(const moe_router_desc *r, const double *z, int64_t n,
                              const moe_int_token_set *set, double *ret) {
    for (int64_t p = 0; p < set->n; p++) {
        double top = best_left(z, n, set), sum = 0;
        for (int64_t j = 0; j < n; j++)
            if (is_candidate(r, z, set, top, j))
                sum += exp(z[j] - top);
        ret[p] = exp(z[set->expert[p]] - top) / sum;
        set->mark[set->expert[p]] = 1;
    }
    clear_marks(set);
}

static void sparsemixer_backward(const moe_router_desc *r, const double *z, int64_t n,
                                 const moe_int_token_set *set, const double *w, const double *dw,
                                 double *dz) {
    for (int64_t p = 0; p < set->n; p++) {
        int64_t pick = set->expert[p];
        double top = best_left(z, n, set);
        double sum = exp(z[pick] - top) / w[p];
        for (int64_t j = 0; j < n; j++)
            if (is_candidate(r, z, set, top, j))
                dz[j] -= dw[p] * w[p] * exp(z[j] - top) / sum;
        dz[pick] += dw[p] * w[p];
        set->mark[pick] = 1;
    }
    clear_marks(set);
}

const moe_int_score moe_int_scores[MOE_SCORE_COUNT] = {
    [MOE_SCORE_SOFTMAX] = {softmax_all, softmax_weigh, softmax_backward},
    [MOE_SCORE_SOFTMAX_TOPK] = {NULL, softmax_topk_weigh, softmax_topk_backward},
    [MOE_SCORE_SIGMOID] = {sigmoid_all, sigmoid_weigh, sigmoid_backward},
    [MOE_SCORE_SPARSEMIXER] = {NULL, sparsemixer_weigh, sparsemixer_backward},
    [MOE_SCORE_SIGMOID_LOGIT] = {NULL, sigmoid_weigh, sigmoid_backward},
    [MOE_SCORE_SQRT_SOFTPLUS] = {sqrt_softplus_all, sqrt_softplus_weigh, sqrt_softplus_backward},
    [MOE_SCORE_SIGMOID_CAP] = {sigmoid_cap_all, sigmoid_cap_weigh, sigmoid_cap_backward},
};
_Static_assert(MOE_SCORE_SIGMOID_CAP + 1 == MOE_SCORE_COUNT, "one row for every moe_score");
