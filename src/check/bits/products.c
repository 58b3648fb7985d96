#include "check/bits/products.h"

#include <stdlib.h>

moe_status moe_int_codes_of(const moe_tensor *t, moe_dtype dtype, moe_int_codes *ret) {
    const size_t count = (size_t)moe_tensor_count(t);
    ret->at = malloc((count + 1) * sizeof *ret->at);
    if (!ret->at)
        return MOE_E_NOMEM;
    moe_convert(ret->at, dtype, t->data, t->dtype, count);
    return MOE_OK;
}

float moe_int_weight_of(const moe_int_source *s, int64_t pair) {
    return s->S->data ? (float)moe_load(s->S->data, s->S->dtype, (size_t)pair)
                      : (float)s->plan->weight[pair];
}

uint16_t *moe_int_weighted_rows(const moe_int_source *s, const uint16_t *rows,
                                const uint16_t *tokens, int64_t width, moe_dtype dtype) {
    const int64_t pairs = s->plan->offsets[s->problem->layer.E];
    uint16_t *ret = malloc((size_t)(pairs * width + 1) * sizeof *ret);
    for (int64_t i = 0; ret && i < pairs * width; i++) {
        const int64_t pair = i / width, t = s->plan->token[pair];
        const double x = rows ? moe_load(rows, dtype, (size_t)i)
                              : moe_load(tokens, dtype, (size_t)(t * width + i % width));
        moe_store(ret, dtype, (size_t)i, (double)(moe_int_weight_of(s, pair) * (float)x));
    }
    return ret;
}

int64_t moe_int_exact_products(const moe_problem *problem, moe_tensor_id id) {
    return id == MOE_T_LOGITS ? 1 : problem->layer.E;
}

/* A matrix of rows `width` long, the first of them number `row`. */
static moe_int_operand rows_of(const uint16_t *codes, int64_t row, int64_t width) {
    return (moe_int_operand){
        .codes = codes + row * width, .i_stride = width, .k_stride = 1, .i_map = NULL};
}

/* The same with its rows along K. */
static moe_int_operand along_k(moe_int_operand o) {
    return (moe_int_operand){o.codes, o.k_stride, o.i_stride, o.k_map, o.i_map, o.is_fp32};
}

static moe_int_operand gathered(moe_int_operand o, const int32_t *rows) {
    o.i_map = rows;
    return o;
}

static const moe_tensor *bias_of(const moe_int_source *s, moe_tensor_id id, int32_t there) {
    return there ? &s->problem->in.t[id] : NULL;
}

moe_int_exact_product moe_int_exact_product_of(const moe_int_source *s, moe_tensor_id id,
                                               int64_t e) {
    const moe_layer_desc *desc = &s->problem->layer;
    const int64_t d = desc->d, n = desc->n, hw = moe_h_width(desc, n);
    const int64_t first = s->plan->offsets[e], rows = s->plan->offsets[e + 1] - first;
    const int32_t *tokens = s->plan->token + first;
    const moe_int_operand X = rows_of(s->X, 0, d);
    moe_int_exact_product p = {
        .M = rows, .N = d, .out = first * d, .first_pair = -1, .stored = true};
    switch ((int)id) {
    case MOE_T_LOGITS:
        p = (moe_int_exact_product){
            .M = s->problem->T, .N = desc->E + desc->n_zero, .K = d, .left = X, .first_pair = -1};
        p.right = rows_of(s->W_r, 0, d);
        p.bias = bias_of(s, MOE_T_B_R, desc->router.bias);
        break;
    case MOE_T_H:
        p.left = s->weighted ? rows_of(s->weighted, first, d) : gathered(X, tokens);
        p.first_pair = s->weighs_sums ? first : -1;
        p.right = rows_of(s->W1, e * hw, d);
        p.N = hw;
        p.K = d;
        p.out = first * hw;
        p.bias = bias_of(s, MOE_T_B1, desc->expert_bias);
        p.bias_at = e * hw;
        break;
    case MOE_T_Y:
        p.left = rows_of(s->from, first, n);
        p.right = rows_of(s->W2, e * d, n);
        p.K = n;
        p.bias = bias_of(s, MOE_T_B2, desc->expert_bias);
        p.bias_at = e * d;
        break;
    case MOE_T_DXP:
        p.left = rows_of(s->from, first, hw);
        p.right = along_k(rows_of(s->W1, e * hw, d));
        p.left.k_map = p.right.k_map = s->gates_first;
        p.K = hw;
        break;
    default: /* dW1 */
        p.left = along_k(rows_of(s->weighted && s->weighs_sums ? s->weighted : s->from, first, hw));
        p.right = along_k(s->weighted && !s->weighs_sums ? rows_of(s->weighted, first, d)
                                                         : gathered(X, tokens));
        p.M = hw;
        p.K = rows;
        p.out = e * hw * d;
        break;
    }
    return p;
}

moe_int_exact_product moe_int_exact_gradient_of(const moe_int_source *s, int64_t e) {
    const moe_layer_desc *desc = &s->problem->layer;
    const int64_t d = desc->d, first = s->plan->offsets[e];
    return (moe_int_exact_product){.left = gathered(rows_of(s->dO, 0, d), s->plan->token + first),
                                   .right = along_k(rows_of(s->W2, e * d, desc->n)),
                                   .M = s->plan->offsets[e + 1] - first,
                                   .N = desc->n,
                                   .K = d,
                                   .first_pair = -1};
}
