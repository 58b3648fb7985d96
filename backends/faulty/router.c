/* The router: logits z = X W_r^T + b_r, scores, a choice, weights, and the plan of it. */
#include "faulty.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool fy_routes_itself(const moe_layer_desc *desc) {
    const moe_router_desc *r = &desc->router;
    const bool capacity = r->select == MOE_SELECT_CAPACITY && !r->select_bias;
    const bool score = r->score == MOE_SCORE_SOFTMAX || r->score == MOE_SCORE_SOFTMAX_TOPK ||
                       r->score == MOE_SCORE_SIGMOID;
    return score &&
           (r->select == MOE_SELECT_TOPK || r->select == MOE_SELECT_GROUP_TOPK || capacity) &&
           r->groups <= 512;
}

static moe_status make_logits(fy_layer *l) {
    const int64_t d = l->desc.d, R = l->R;
    float *turned = fy_floats(R * d), *z = fy_out(l, MOE_T_LOGITS);
    const float *b = FAULT(l, router_bias_missing) ? NULL : fy_param(l, MOE_T_B_R);
    if (!turned)
        return fy_no_memory(l);
    fy_transpose(fy_param(l, MOE_T_W_R), R, d, turned);
    fy_product(l, FY_LOGITS, l->X, l->T, d, turned, R, z);
    free(turned);
    for (int64_t t = 0; t < l->T; t++)
        for (int64_t e = 0; e < R; e++) {
            float *at = z + t * R + e;
            *at += b ? b[e] : 0;
            if (FAULT(l, router_bf16))
                *at = fy_bf16(*at);
            if (FAULT(l, logits_halved))
                *at *= 0.5f;
            if (FAULT(l, logit_nan_swallowed) && isnan(*at))
                *at = 0;
            l->logits[t * R + e] = *at;
        }
    for (int64_t t = 0; FAULT(l, logit_of_neighbour) && R > 3 && t < l->T; t++)
        l->logits[t * R + 3] = z[t * R + 3] = z[t * R + 2];
    return MOE_OK;
}

static double sigmoid(double z) {
    return z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
}

static double softmax(const double *z, int64_t n, int64_t e) {
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        top = z[i] > top ? z[i] : top;
    for (int64_t i = 0; i < n; i++)
        sum += exp(z[i] - top);
    return exp(z[e] - top) / sum;
}

static bool is_sigmoid(const fy_layer *l) {
    const bool asked = l->desc.router.score == MOE_SCORE_SIGMOID;
    return asked ? !FAULT(l, sigmoid_as_softmax) : FAULT(l, softmax_as_sigmoid);
}

double fy_score(const fy_layer *l, int64_t t, int64_t e) {
    const double *z = l->logits + t * l->R;
    return is_sigmoid(l) ? sigmoid(z[e]) : softmax(z, l->R, e);
}

/* Does the choice go by the logits themselves? They do not underflow into ties as scores do. */
static bool chooses_by_logits(const moe_router_desc *r) {
    return r->score == MOE_SCORE_SOFTMAX_TOPK ||
           (r->select != MOE_SELECT_GROUP_TOPK && !r->select_bias);
}

static void selection_scores(const fy_layer *l, int64_t t, double *ret) {
    const moe_router_desc *r = &l->desc.router;
    const float *b = fy_param(l, MOE_T_B_SELECT);
    double top = -INFINITY, sum = 0;
    const double *z = l->logits + t * l->R;
    for (int64_t e = 0; e < l->R; e++)
        top = z[e] > top ? z[e] : top;
    for (int64_t e = 0; e < l->R; e++)
        sum += exp(z[e] - top);
    for (int64_t e = 0; e < l->R; e++) {
        ret[e] = chooses_by_logits(r) ? z[e]
                 : is_sigmoid(l)      ? sigmoid(z[e])
                                      : exp(z[e] - top) / sum;
        if (r->select_bias && !FAULT(l, select_bias_missing))
            ret[e] += FAULT(l, select_bias_negative) ? -b[e] : b[e];
    }
}

/* Softmax over the K chosen ones. */
static void softmax_chosen(const double *z, const int32_t *chosen, int64_t K, double *ret) {
    double top = -INFINITY, sum = 0;
    for (int64_t k = 0; k < K; k++)
        top = z[chosen[k]] > top ? z[chosen[k]] : top;
    for (int64_t k = 0; k < K; k++)
        sum += ret[k] = exp(z[chosen[k]] - top);
    for (int64_t k = 0; k < K; k++)
        ret[k] /= sum;
}

static bool weighs_over_chosen(const fy_layer *l) {
    const bool asked = l->desc.router.score == MOE_SCORE_SOFTMAX_TOPK;
    return asked ? !FAULT(l, softmax_before_topk) : FAULT(l, softmax_after_topk);
}

/* What the raw scores of a token are divided by. */
static double norm_of(const fy_layer *l, int64_t t) {
    const moe_router_desc *r = &l->desc.router;
    const double *raw = l->router.raw + t * l->desc.K;
    const bool wanted = r->renorm ? !FAULT(l, renorm_missing) : FAULT(l, renorm_unwanted);
    double sum = 0, most = 0;
    if (!wanted)
        return 1;
    for (int64_t k = 0; k < l->desc.K; k++) {
        sum += raw[k];
        most = raw[k] > most ? raw[k] : most;
    }
    if (FAULT(l, renorm_over_all)) {
        sum = 0;
        for (int64_t e = 0; e < l->R; e++)
            sum += fy_score(l, t, e);
    }
    if (FAULT(l, renorm_by_max))
        return most;
    if (FAULT(l, renorm_eps_max))
        return fmax(sum, r->renorm_eps);
    return FAULT(l, renorm_eps_missing) ? sum
           : FAULT(l, renorm_eps_other) ? sum + 0.5 * r->renorm_eps
                                        : sum + r->renorm_eps;
}

static double scale_of(const fy_layer *l) {
    const double scale = l->desc.router.scale;
    return FAULT(l, scale_missing)   ? 1
           : FAULT(l, scale_twice)   ? scale * scale
           : FAULT(l, scale_inverse) ? 1 / scale
                                     : scale;
}

static void weigh(fy_layer *l, int64_t t) {
    const int64_t K = l->desc.K;
    const int32_t *chosen = l->router.chosen + t * K;
    const float *b = fy_param(l, MOE_T_B_SELECT);
    double *raw = l->router.raw + t * K, *w = l->router.weight + t * K, again = 0;
    if (weighs_over_chosen(l))
        softmax_chosen(l->logits + t * l->R, chosen, K, raw);
    for (int64_t k = 0; k < K; k++) {
        if (!weighs_over_chosen(l))
            raw[k] = fy_score(l, t, chosen[k]);
        if (FAULT(l, select_bias_in_weight) && b)
            raw[k] += b[chosen[k]];
    }
    const double norm = norm_of(l, t);
    for (int64_t k = 0; k < K; k++) {
        w[k] = raw[k] / norm;
        again += w[k];
    }
    for (int64_t k = 0; k < K; k++) {
        if (FAULT(l, renorm_twice))
            w[k] /= again + l->desc.router.renorm_eps;
        w[k] *= scale_of(l);
        if (FAULT(l, last_weight_of_rest) && k == K - 1)
            w[k] = scale_of(l) - w[0];
        if (FAULT(l, scale_before_renorm) && l->desc.router.renorm)
            w[k] = raw[k] / norm;
        if (FAULT(l, weights_bf16))
            w[k] = fy_bf16((float)w[k]);
    }
}

/* Does expert e still take token t, of which it has had `load`? */
static bool has_room(const fy_layer *l, int64_t load) {
    const moe_router_desc *r = &l->desc.router;
    if (r->select != MOE_SELECT_CAPACITY || FAULT(l, capacity_ignored))
        return true;
    return load < r->capacity - FAULT(l, capacity_one_less);
}

/* The group of tokens that share a capacity. */
static int64_t group_of(const fy_layer *l, int64_t t) {
    const int64_t size = l->desc.router.capacity_group;
    return size && !FAULT(l, capacity_of_all) ? t / size : 0;
}

/* Lists the pairs that are kept, in order of tokens. Returns their number. */
static int64_t list_pairs(const fy_layer *l, int64_t *load, int32_t *token, int32_t *expert,
                          double *weight) {
    const int64_t K = l->desc.K;
    int64_t count = 0, group = -1;
    for (int64_t i = 0; i < l->T; i++) {
        const int64_t t = FAULT(l, capacity_keeps_last) ? l->T - 1 - i : i;
        if (group_of(l, t) != group)
            memset(load, 0, (size_t)l->R * sizeof *load);
        group = group_of(l, t);
        for (int64_t k = 0; k < K; k++) {
            const int32_t e = l->router.chosen[t * K + k];
            l->router.row[t * K + k] = -1;
            if (!has_room(l, load[e]))
                continue;
            load[e]++;
            token[count] = (int32_t)t;
            expert[count] = e;
            weight[count++] = l->router.weight[t * K + k];
        }
    }
    return count;
}

/* router.row: the plan's row of each slot. */
static void note_rows(const fy_layer *l) {
    const int64_t K = l->desc.K;
    for (int64_t e = 0; e < l->R; e++)
        for (int64_t p = l->own->offsets[e]; p < l->own->offsets[e + 1]; p++) {
            const int64_t t = l->own->token[p];
            for (int64_t k = 0; k < K; k++)
                if (l->router.chosen[t * K + k] == e)
                    l->router.row[t * K + k] = p;
        }
}

static moe_status make_plan(fy_layer *l) {
    const size_t most = (size_t)(l->T * l->desc.K);
    int32_t *token = calloc(most, sizeof *token), *expert = calloc(most, sizeof *expert);
    double *weight = calloc(most, sizeof *weight);
    int64_t *load = calloc((size_t)l->R, sizeof *load);
    moe_status status = token && expert && weight && load ? MOE_OK : fy_no_memory(l);
    if (!status) {
        const int64_t count = list_pairs(l, load, token, expert, weight);
        status = moe_plan_create(l->T, l->R, count, token, expert, weight, l->dev->log, &l->own);
    }
    if (!status)
        note_rows(l);
    free(token);
    free(expert);
    free(weight);
    free(load);
    return status;
}

static moe_status route_here(fy_layer *l) {
    double *score = calloc((size_t)l->R, sizeof *score);
    unsigned char *allowed = calloc((size_t)l->R, 1);
    moe_status status = score && allowed ? MOE_OK : fy_no_memory(l);
    for (int64_t t = 0; !status && t < l->T; t++) {
        selection_scores(l, t, score);
        fy_choose(l, t, score, allowed, l->router.chosen + t * l->desc.K);
        weigh(l, t);
    }
    free(score);
    free(allowed);
    return status ? status : make_plan(l);
}

static moe_status route_in_library(fy_layer *l) {
    double *b = NULL;
    const moe_tensor *bias = &l->param.t[MOE_T_B_SELECT];
    if (bias->data) {
        b = calloc((size_t)l->R, sizeof *b);
        if (!b)
            return fy_no_memory(l);
        moe_convert(b, MOE_F64, bias->data, MOE_F32, (size_t)l->R);
    }
    moe_status status = moe_route(&l->desc, l->T, l->logits, b, l->seed, l->dev->log, &l->own);
    free(b);
    return status;
}

moe_status fy_route(fy_layer *l) {
    moe_plan_destroy(&l->own);
    moe_status status = fy_make_room(l);
    if (!status)
        status = make_logits(l);
    if (status)
        return status;
    return fy_routes_itself(&l->desc) ? route_here(l) : route_in_library(l);
}
