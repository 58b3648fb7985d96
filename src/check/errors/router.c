/* Errors of the router: of the combine weights, and of the gradient that comes back through them.
 * The router computes in fp32 or better, so beside stored bf16 and fp16 only dS counts. */
#include "check/errors/errors.h"
#include "reference/loops.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

moe_status moe_int_router_norms(const moe_layer_desc *desc, const moe_tensors *in, double **ret) {
    const int64_t d = desc->d, R = desc->E + desc->n_zero;
    const moe_tensor *w = &in->t[MOE_T_W_R], *b = &in->t[MOE_T_B_R];
    double *norms = calloc(2 * (size_t)R, sizeof *norms);
    if (!norms)
        return MOE_E_NOMEM;
    for (int64_t e = 0; e < R; e++)
        norms[e] = moe_int_row_square(w, e, d);
    if (b->data)
        moe_int_load(b, 0, R, norms + R);
    *ret = norms;
    return MOE_OK;
}

/* V of the logit z of expert e, <x, w> and a bias: adding d terms. */
static double logit_variance(const moe_layer_desc *desc, const moe_int_rounding *r, double xx,
                             const double *norms, int64_t e, double z) {
    const double bias = norms[desc->E + desc->n_zero + e];
    return moe_int_dot_errors(r, (double)desc->d, xx * norms[e], z - bias) +
           moe_int_stored_at(r, MOE_POINT_LOGITS, z);
}

/* Logits of the experts of one token. */
typedef struct chosen_logits {
    double variance; /* V, each as much as it weighs */
    double top;      /* largest; 0 where a score is of its own logit alone */
} chosen_logits;

static bool is_softmax(const moe_layer_desc *desc) {
    const int32_t score = desc->router.score;
    return score == MOE_SCORE_SOFTMAX || score == MOE_SCORE_SOFTMAX_TOPK ||
           score == MOE_SCORE_SPARSEMIXER;
}

/* Of token t, whose logits are z [R]. */
static chosen_logits logits_of(const moe_layer_desc *desc, const moe_int_rounding *r,
                               const moe_plan *plan, int64_t t, const double *z, double xx,
                               const double *norms) {
    double sum = 0, weights = 0, top = is_softmax(desc) ? -INFINITY : 0;
    for (int64_t i = plan->token_offsets[t]; i < plan->token_offsets[t + 1]; i++) {
        const int64_t p = plan->pair_of_token[i], e = moe_int_plan_expert_of(plan, p);
        const double weight = fabs(plan->weight[p]);
        sum += weight * logit_variance(desc, r, xx, norms, e, z[e]);
        weights += weight;
        top = is_softmax(desc) ? fmax(top, z[e]) : top;
    }
    return (chosen_logits){weights > 0 ? sum / weights : 0, top};
}

/* |d log s / d z| <= 1 for every score, for z_e and for the sum of the others alike. exp2 is of
 * z log2(e), a product that is rounded. */
static double weight_variance(const moe_int_rounding *r, double z, double own,
                              const chosen_logits *all) {
    const double of_exp = z - all->top;
    return own + fmax(own, all->variance) + r->router + 2 * r->sum * of_exp * of_exp +
           moe_int_at(r, MOE_POINT_S, 1);
}

double moe_int_weight_variance(const moe_layer_desc *desc, const moe_int_rounding *r,
                               const moe_plan *plan, int64_t p, const double *z, double xx,
                               const double *norms) {
    const int64_t e = moe_int_plan_expert_of(plan, p);
    const chosen_logits all = logits_of(desc, r, plan, plan->token[p], z, xx, norms);
    return weight_variance(r, z[e], logit_variance(desc, r, xx, norms, e, z[e]), &all);
}

moe_status moe_int_weight_errors(moe_int_error_run *k) {
    const moe_plan *plan = k->oracle->plan;
    const double *S = k->oracle->out.t[MOE_T_S].data, *z = k->oracle->out.t[MOE_T_LOGITS].data;
    const int64_t R = plan->n_experts;
    double *norms = NULL, *vz = k->v->t[MOE_T_LOGITS].data;
    moe_status status = moe_int_router_norms(k->desc, k->in, &norms);
    for (int64_t i = 0; !status && i < k->T * R; i++)
        vz[i] = logit_variance(k->desc, &k->rounding, k->xx[i / R], norms, i % R, z[i]);
    for (int64_t t = 0; !status && t < k->T; t++) {
        const chosen_logits all =
            logits_of(k->desc, &k->rounding, plan, t, z + t * R, k->xx[t], norms);
        for (int64_t i = plan->token_offsets[t]; i < plan->token_offsets[t + 1]; i++) {
            const int64_t p = plan->pair_of_token[i], at = t * R + moe_int_plan_expert_of(plan, p);
            k->vweight[p] = weight_variance(&k->rounding, z[at], vz[at], &all);
            ((double *)k->v->t[MOE_T_S].data)[p] = S[p] * S[p] * k->vweight[p];
        }
    }
    free(norms);
    return status;
}

/* 1 for the slot-th pair of every token, 0 for all others. */
static void pick_slot(const moe_plan *plan, int64_t slot, double *ret) {
    for (int64_t p = 0; p < plan->n_pairs; p++)
        ret[p] = 0;
    for (int64_t t = 0; t < plan->n_tokens; t++)
        if (plan->token_offsets[t] + slot < plan->token_offsets[t + 1])
            ret[plan->pair_of_token[plan->token_offsets[t] + slot]] = 1;
}

/* Adds the variance that pair p causes in its token's dz[R] to `ret`; returns the variance that it
 * causes in the token's row of dX, 0 where `norms` is NULL. p changes dz by slope[R] * dS:
 *   dS      has an error of its own, one of being stored, and one from the weights in the slope
 *   slope   is a difference of terms as large as the weight, for experts that are not chosen times
 *           their share, the softmax `share`[R]; it is 0 for K = 1 with renormalised weights
 * The row of dX errs by one number times a row of W_r, whose squared norms are `norms`[R]. */
static double add_pair(const moe_int_error_run *k, int64_t p, const double *slope,
                       const double *share, const unsigned char *chosen, const double *norms,
                       double *ret) {
    const moe_plan *plan = k->oracle->plan;
    double dS = ((const double *)k->oracle->out.t[MOE_T_DS].data)[p], w = plan->weight[p];
    double term = ((const double *)k->v->t[MOE_T_DS].data)[p] +
                  moe_int_stored_at(&k->rounding, MOE_POINT_DS, dS) + dS * dS * k->vweight[p],
           row = 0;
    for (int64_t e = 0; e < plan->n_experts; e++) {
        double inner = chosen[e] ? 1 : share[e];
        double v = slope[e] * slope[e] * term;
        v += k->rounding.router * inner * inner * w * w * dS * dS;
        ret[e] += v;
        row += norms ? v * norms[e] : 0;
    }
    return row;
}

/* exp(z - max) / sum for a softmax over all experts; 0 where experts not chosen get no gradient. */
static void shares_of(const moe_int_error_run *k, const double *z, double *ret) {
    int64_t R = k->oracle->plan->n_experts;
    double top = -INFINITY, sum = 0;
    for (int64_t e = 0; e < R; e++)
        top = fmax(top, z[e]);
    for (int64_t e = 0; e < R; e++)
        sum += ret[e] = exp(z[e] - top);
    bool all = k->desc->router.score == MOE_SCORE_SOFTMAX;
    for (int64_t e = 0; e < R; e++)
        ret[e] = all ? ret[e] / sum : 0;
}

/* Scratch of dz_errors. */
typedef struct router_work {
    double *one, *slope, *vdz; /* [all pairs], [T][R], [T][R] */
    double *norms;             /* [R] |W_r[e]|^2; NULL: dX is not asked for */
} router_work;

/* Adds token t's slot-th pair; `share` and `chosen` are room, [R]. */
static void add_token(const moe_int_error_run *k, const double *z, int64_t slot, int64_t t,
                      const router_work *w, double *share, unsigned char *chosen) {
    const moe_plan *plan = k->oracle->plan;
    int64_t R = plan->n_experts, from = plan->token_offsets[t], to = plan->token_offsets[t + 1];
    if (from + slot >= to)
        return;
    shares_of(k, z + t * R, share);
    memset(chosen, 0, (size_t)R);
    for (int64_t i = from; i < to; i++)
        chosen[moe_int_plan_expert_of(plan, plan->pair_of_token[i])] = 1;
    double row = add_pair(k, plan->pair_of_token[from + slot], w->slope + t * R, share, chosen,
                          w->norms, w->vdz + t * R);
    if (k->rows)
        k->rows->common_dx[t] += row * row;
}

/* Adds the slot-th pair of tokens first ... end. */
static moe_status add_tokens(const moe_int_error_run *k, const double *z, int64_t slot,
                             int64_t first, int64_t end, const router_work *w) {
    const size_t R = (size_t)k->oracle->plan->n_experts;
    double *share = malloc(R * sizeof *share);
    unsigned char *chosen = malloc(R);
    const bool complete = share && chosen;
    for (int64_t t = first; complete && t < end; t++)
        add_token(k, z, slot, t, w, share, chosen);
    free(share);
    free(chosen);
    return complete ? MOE_OK : MOE_E_NOMEM;
}

/* Adds the slot-th pair of every token. */
static moe_status add_slot(const moe_int_error_run *k, const double *z, int64_t slot,
                           const router_work *w) {
    enum { MANY = 1 << 18, PART = 256 }; /* logits worth a team of threads; tokens of each */
    bool failed = false;
    if (k->T * k->oracle->plan->n_experts < MANY)
        return add_tokens(k, z, slot, 0, k->T, w);
#pragma omp parallel for schedule(static) reduction(|| : failed)
    for (int64_t t = 0; t < k->T; t += PART)
        failed =
            add_tokens(k, z, slot, t, t + PART < k->T ? t + PART : k->T, w) != MOE_OK || failed;
    return failed ? MOE_E_NOMEM : MOE_OK;
}

/* dz is linear in dS: its slopes are the router's backward of unit vectors, one pair of every token
 * at a time. */
static moe_status dz_errors(const moe_int_error_run *k, const double *z, router_work *w) {
    const moe_plan *plan = k->oracle->plan;
    int64_t slots = 0;
    moe_status status = k->rows ? moe_int_router_norms(k->desc, k->in, &w->norms) : MOE_OK;
    for (int64_t t = 0; t < k->T; t++) {
        int64_t n = plan->token_offsets[t + 1] - plan->token_offsets[t];
        slots = n > slots ? n : slots;
    }
    for (int64_t slot = 0; !status && slot < slots; slot++) {
        pick_slot(plan, slot, w->one);
        status = moe_route_backward(k->desc, z, plan, w->one, w->slope);
        if (!status)
            status = add_slot(k, z, slot, w);
    }
    return status;
}

moe_status moe_int_dz_errors(const moe_int_error_run *k, double *ret_dz, double *ret_vdz) {
    const moe_plan *plan = k->oracle->plan;
    const double *z = k->oracle->out.t[MOE_T_LOGITS].data;
    size_t count = (size_t)k->T * (size_t)plan->n_experts;
    router_work w = {.one = malloc(((size_t)plan->n_pairs + 1) * sizeof *w.one),
                     .slope = ret_dz,
                     .vdz = ret_vdz};
    memset(ret_vdz, 0, count * sizeof *ret_vdz);
    moe_status status = w.one ? dz_errors(k, z, &w) : MOE_E_NOMEM;
    if (!status)
        status = moe_route_backward(k->desc, z, plan, k->oracle->out.t[MOE_T_DS].data, ret_dz);
    free(w.one);
    free(w.norms);
    return status;
}

/* ret = vdz and what adding `terms` products with dz adds. [T][R] */
static void with_adding(const moe_int_error_run *k, const double *vdz, const double *dz,
                        int64_t terms, double *ret) {
    const double added = moe_int_adding(&k->rounding, (double)terms) +
                         moe_int_at(&k->rounding, MOE_POINT_DLOGITS, 1);
    for (int64_t i = 0, count = k->T * k->oracle->plan->n_experts; i < count; i++)
        ret[i] = vdz[i] + added * dz[i] * dz[i];
}

/* dW_r = dz^T X, db_r = sum dz: T terms; dX += dz W_r: R terms. */
static moe_status linear_stages(const moe_int_error_run *k, const double *vdz, const double *dz) {
    int64_t d = k->desc->d, T = k->T, R = k->oracle->plan->n_experts;
    double *squares = malloc((size_t)(T * d) * sizeof *squares);
    double *dx = malloc((size_t)(T * d) * sizeof *dx);
    double *added = malloc((size_t)(T * R) * sizeof *added);
    double *w = moe_int_doubles(&k->in->t[MOE_T_W_R], 0, R * d);
    double *v = k->v->t[MOE_T_DX].data, *vdb = k->v->t[MOE_T_DB_R].data;
    bool complete = squares && dx && added && w;
    if (complete) {
        with_adding(k, vdz, dz, R, added);
        moe_int_loop_square_f64(w, R * d, w);
        moe_int_loop_times_f64(added, T, R, w, d, k->threads, dx);
        for (int64_t i = 0; i < T * d; i++)
            v[i] += dx[i];
        with_adding(k, vdz, dz, T, added);
        moe_int_loop_square_f64(k->X, T * d, squares);
        moe_int_loop_outer_f64(added, T, R, squares, d, k->threads, k->v->t[MOE_T_DW_R].data);
        for (int64_t i = 0; vdb && i < T * R; i++)
            vdb[i % R] += added[i];
    }
    free(squares);
    free(dx);
    free(added);
    free(w);
    return complete ? MOE_OK : MOE_E_NOMEM;
}

moe_status moe_int_router_errors(const moe_int_error_run *k) {
    size_t count = (size_t)k->T * (size_t)k->oracle->plan->n_experts;
    double *dz = malloc(count * sizeof *dz), *vdz = malloc(count * sizeof *vdz);
    moe_status status = dz && vdz ? moe_int_dz_errors(k, dz, vdz) : MOE_E_NOMEM;
    if (!status)
        status = linear_stages(k, vdz, dz);
    free(dz);
    free(vdz);
    return status;
}
