/* Rows of a product beside what they are made of. */
#include "check/explain/product.h"
#include "core/elements.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int64_t moe_int_product_expert(const moe_int_product_view *v, int64_t i) {
    return v->experts ? moe_int_plan_expert_of(v->e->routing->plan, v->pair[i]) : 0;
}

double moe_int_product_distance(const moe_int_product_view *v, int64_t i, const double *w,
                                const double *x, int64_t outs) {
    double sum = 0;
    for (int64_t c = 0; c < outs; c++)
        sum += pow(v->out[i * v->outs + c] - moe_int_inner(w + c * v->depth, x, v->depth), 2);
    return sum;
}

void moe_int_product_matrix(const moe_int_product_view *v, int64_t e, double *ret) {
    const int64_t count = v->outs * v->depth;
    moe_int_load(v->w, e * count, count, ret);
    if (!v->turned)
        return;
    double *turned = malloc((size_t)count * sizeof *turned);
    if (turned) {
        moe_int_transpose(turned, ret, sizeof *ret, 1, v->depth, v->outs);
        memcpy(ret, turned, (size_t)count * sizeof *ret);
    }
    free(turned);
}

void moe_int_product_source(const moe_int_product_view *v, int64_t i, int64_t q, double *ret) {
    const bool weighted = v->e->problem->layer.router.weight_on == MOE_WEIGHT_ON_INPUT;
    moe_int_load(v->in, q * v->depth, v->depth, ret);
    for (int64_t k = 0; weighted && v->id == MOE_T_H && k < v->depth; k++)
        ret[k] *= v->e->routing->plan->weight[v->pair[i]];
}

/* What makes tensor `id`. */
static bool describe(const moe_int_local *l, moe_int_product_view *v) {
    const moe_int_evidence *e = v->e;
    const moe_layer_desc *desc = &e->problem->layer;
    const moe_tensor *in = e->problem->in.t;
    const int64_t hw = moe_h_width(desc, desc->n);
    switch ((int)v->id) { /* those that are products */
    case MOE_T_LOGITS:
        v->equation = "router_logits = X W_r^T";
        v->operand = "X";
        v->matrix = "W_r";
        v->in = &in[MOE_T_X];
        v->w = &in[MOE_T_W_R];
        v->bias = &in[MOE_T_B_R];
        v->outs = e->routing->plan->n_experts;
        v->depth = desc->d;
        v->tokens = true;
        break;
    case MOE_T_H:
        v->equation = "H = x W1^T";
        v->operand = "X";
        v->matrix = "W1";
        v->in = &in[MOE_T_X];
        v->w = &in[MOE_T_W1];
        v->bias = &in[MOE_T_B1];
        v->outs = hw;
        v->depth = desc->d;
        v->tokens = true;
        v->experts = desc->E;
        break;
    case MOE_T_Y:
        v->equation = "Y = A W2^T";
        v->operand = "A";
        v->matrix = "W2";
        v->in = moe_int_local_operand(e, MOE_T_A);
        v->w = &in[MOE_T_W2];
        v->bias = &in[MOE_T_B2];
        v->outs = desc->d;
        v->depth = desc->n;
        v->experts = desc->E;
        break;
    case MOE_T_DH:
        v->equation = "dA' = dO W2";
        v->operand = "dO";
        v->matrix = "W2";
        v->in = &in[MOE_T_DO];
        v->w = &in[MOE_T_W2];
        v->turned = true;
        v->outs = desc->n;
        v->depth = desc->d;
        v->tokens = true;
        v->experts = desc->E;
        break;
    case MOE_T_DXP:
        v->equation = "dX~ = dH W1";
        v->operand = "dH";
        v->matrix = "W1";
        v->in = moe_int_local_operand(e, MOE_T_DH);
        v->w = &in[MOE_T_W1];
        v->turned = true;
        v->outs = desc->d;
        v->depth = hw;
        v->experts = desc->E;
        break;
    }
    return v->in && v->in->data && v->w && v->w->data && l->p->odd == 0;
}

/* dA' of a row of dH: what times the slopes of gate and up is nearest to it. The rest is left. */
static double unweave(const moe_int_local *l, int64_t r, int64_t pair, double *da) {
    const moe_int_evidence *e = l->p->e;
    const moe_layer_desc *desc = &e->problem->layer;
    const moe_tensor *h = moe_int_local_operand(e, MOE_T_H);
    const bool weighted = desc->router.weight_on == MOE_WEIGHT_ON_OUTPUT;
    const double w = weighted ? e->routing->plan->weight[pair] : 1;
    const int64_t hw = moe_h_width(desc, desc->n);
    const moe_int_change right = {.desc = *desc};
    double rest = 0;
    for (int64_t j = 0; j < desc->n; j++) {
        double unit[2] = {0, 0}, slope[2] = {0, 0}, got[2] = {0, 0}, a;
        for (int up = 0; up < (hw == desc->n ? 1 : 2); up++) {
            int64_t c = moe_h_column(desc->glu_layout, desc->n, hw, j, up);
            unit[up] = moe_load(h->data, h->dtype, (size_t)(pair * hw + c));
            got[up] = moe_int_sight_got(l->p, r, c);
        }
        moe_int_changed_act(&right, unit, &a, slope);
        const double s2 = slope[0] * slope[0] + slope[1] * slope[1];
        da[j] = s2 > 0 && w != 0 ? (got[0] * slope[0] + got[1] * slope[1]) / (s2 * w) : 0;
        for (int up = 0; up < 2; up++)
            rest += pow(got[up] - w * da[j] * slope[up], 2);
    }
    return rest;
}

/* Row r of the tensor as it came, less its bias. False: it is no product, whatever its factors. */
static bool take_row(const moe_int_local *l, int64_t r, moe_int_product_view *v) {
    const int64_t i = v->rows, group = moe_int_layout_group(&l->p->layout, r);
    double *out = v->out + i * v->outs;
    v->pair[i] = group;
    v->own[i] = v->tokens && v->experts ? v->e->routing->plan->token[group] : group;
    if (v->id == MOE_T_DH) {
        if (!moe_int_local_operand(v->e, MOE_T_H) ||
            unweave(l, r, group, out) > moe_int_local_limit(v->e, v->id, l->p->row[r].d2))
            return false;
    } else {
        const int64_t at = moe_int_product_expert(v, i) * v->outs;
        for (int64_t c = 0; c < v->outs; c++) {
            out[c] = moe_int_sight_got(l->p, r, c);
            if (v->bias && v->bias->data)
                out[c] -= moe_load(v->bias->data, v->bias->dtype, (size_t)(at + c));
        }
    }
    v->rows++;
    return true;
}

/* The error of each row against the product of what it should be made of. */
static bool measure(moe_int_product_view *v) {
    double *w = malloc((size_t)((v->outs + 1) * v->depth) * sizeof *w);
    double *x = w ? w + v->outs * v->depth : NULL;
    int64_t of = -1;
    for (int64_t i = 0; w && i < v->rows; i++) {
        if (moe_int_product_expert(v, i) != of)
            moe_int_product_matrix(v, of = moe_int_product_expert(v, i), w);
        moe_int_product_source(v, i, v->own[i], x);
        v->d2[i] = 0;
        for (int64_t c = 0; c < v->outs; c++)
            v->d2[i] +=
                pow(v->out[i * v->outs + c] - moe_int_inner(w + c * v->depth, x, v->depth), 2);
    }
    free(w);
    return w != NULL && v->rows > 0;
}

/* The first rows that the expert of the first wrong row has wrong. */
static int64_t rows_together(const moe_int_sight *p, int64_t *ret) {
    int64_t count = 0, of = -1;
    for (int64_t r = 0; r < p->rows && count < MOE_INT_PRODUCT_ROWS; r++) {
        if (!p->row[r].wrong || p->row[r].odd > 0 || (of >= 0 && moe_int_sight_expert(p, r) != of))
            continue;
        of = moe_int_sight_expert(p, r);
        ret[count++] = r;
    }
    return count;
}

bool moe_int_product_view_make(const moe_int_local *l, bool together, moe_int_product_view *ret) {
    *ret = (moe_int_product_view){.e = l->p->e, .id = l->p->id};
    int64_t row[MOE_INT_PRODUCT_ROWS];
    if (!describe(l, ret))
        return false;
    ret->sources = moe_tensor_count(ret->in) / ret->depth;
    ret->out = malloc((size_t)(MOE_INT_PRODUCT_ROWS * ret->outs) * sizeof *ret->out);
    const int64_t count = !ret->out  ? 0
                          : together ? rows_together(l->p, row)
                                     : moe_int_local_rows(l->p, MOE_INT_PRODUCT_ROWS, row);
    for (int64_t i = 0; i < count; i++)
        if (!take_row(l, row[i], ret))
            return false;
    return count > 0 && measure(ret);
}

void moe_int_product_view_destroy(moe_int_product_view *v) {
    free(v->out);
    v->out = NULL;
}
