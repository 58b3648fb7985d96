#include "layer/cancel.h"

/* How much larger the large terms are, so that one step of fp32 at their size is no less than a
 * last place of what remains. fp16 has a narrow range: there what remains is small instead. */
typedef struct sizes {
    double input, weight; /* first and last column of X and of W1 */
    double unit[2];       /* of the first and the last hidden unit, gate (or only) and up */
    double middle, down;  /* W2, and its first and last column besides */
    double quiet, token;  /* dO, and that of twins besides */
} sizes;

static sizes sizes_of(moe_dtype dtype) {
    if (dtype == MOE_F16)
        return (sizes){0x1p9, 0x1p9, {2, 32}, 0x1p-2, 0x1p13, 0x1p-14, 0x1p12};
    return (sizes){0x1p10, 0x1p10, {2, 32}, 1, 0x1p18, 1, 0x1p16};
}

/* Tokens that have a twin after them. */
#define TWINS(tokens) (3 * (tokens) / 8)

int64_t moe_int_cancel_twin(int64_t token, int64_t tokens) {
    return tokens - 1 - token < TWINS(tokens) ? tokens - 1 - token : token;
}

static double load(const moe_tensor *t, int64_t at) {
    return moe_load(t->data, t->dtype, (size_t)at);
}

static void store(const moe_tensor *t, int64_t at, double value) {
    moe_store(t->data, t->dtype, (size_t)at, value);
}

static void scale(const moe_tensor *t, double factor) {
    for (int64_t i = 0; t->data && i < moe_tensor_count(t); i++)
        store(t, i, factor * load(t, i));
}

/* In every row the first element times `factor`, and the last one `sign` times that. */
static void tie_columns(const moe_tensor *t, double factor, double sign) {
    const int64_t width = t->data ? t->shape[t->ndim - 1] : 1;
    for (int64_t at = 0; width > 1 && at < moe_tensor_count(t); at += width) {
        store(t, at, factor * load(t, at));
        store(t, at + width - 1, sign * load(t, at));
    }
}

/* The last hidden unit's rows of `width` elements become the first one's, times `factor`. */
static void tie_units(const moe_problem *p, const moe_tensor *t, int64_t width,
                      const double *factor) {
    const moe_layer_desc *desc = &p->layer;
    const int64_t hw = moe_h_width(desc, desc->n);
    for (int64_t e = 0; t->data && e < desc->E; e++)
        for (int up = 0; up < hw / desc->n; up++)
            for (int64_t i = 0; i < width; i++) {
                int64_t from = moe_h_column(desc->glu_layout, desc->n, hw, 0, up);
                int64_t to = moe_h_column(desc->glu_layout, desc->n, hw, desc->n - 1, up);
                const double value = factor[up] * load(t, (e * hw + from) * width + i);
                store(t, (e * hw + from) * width + i, value);
                store(t, (e * hw + to) * width + i, value);
            }
}

static void tie_tokens(const moe_problem *p, const sizes *s) {
    const moe_tensor *X = &p->in.t[MOE_T_X], *dO = &p->in.t[MOE_T_DO];
    const int64_t d = p->layer.d;
    for (int64_t i = 0; i < p->T * d; i++) {
        const int64_t t = i / d, twin = moe_int_cancel_twin(t, p->T);
        const int64_t from = twin * d + i % d;
        store(X, i, load(X, from));
        if (!dO->data)
            continue;
        if (twin != t) /* the first of the two is done */
            store(dO, i, -load(dO, from));
        else
            store(dO, i, load(dO, i) * s->quiet * (t < TWINS(p->T) ? s->token : 1));
    }
}

void moe_int_cancel(moe_problem *p) {
    const sizes s = sizes_of((moe_dtype)p->dtype);
    moe_tensors *in = &p->in;
    tie_columns(&in->t[MOE_T_X], s.input, 1);
    tie_columns(&in->t[MOE_T_W1], s.weight, -1);
    scale(&in->t[MOE_T_W2], s.middle);
    tie_columns(&in->t[MOE_T_W2], s.down, -1);
    tie_columns(&in->t[MOE_T_W_R], 0, 0);
    tie_units(p, &in->t[MOE_T_W1], p->layer.d, s.unit);
    tie_units(p, &in->t[MOE_T_B1], 1, (const double[]){1, 1});
    tie_tokens(p, &s);
    p->cancels = 1;
}
