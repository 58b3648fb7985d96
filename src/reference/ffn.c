#include "reference/ffn.h"
#include "reference/activation.h"
#include "reference/loops.h"

#include <stdlib.h>

static real *alloc(int64_t count) {
    return calloc((size_t)(count > 0 ? count : 1), sizeof(real));
}

static int64_t token_of(const ffn *f, int64_t r) {
    return f->token ? f->token[r] : r;
}

static bool has(const ffn *f, moe_point point) {
    return (f->points & (uint32_t)point) != 0;
}

/* Rounds where the recipe does. */
static void store(const ffn *f, moe_point point, real *x, int64_t count) {
    if (has(f, point))
        loop_round(x, count, f->storage);
}

/* The type that pointwise steps inside an activation store. */
static moe_dtype inner_of(const ffn *f) {
    return has(f, MOE_POINT_INNER) ? f->storage : MOE_F64;
}

/* Does the gradient take its weight before the products with W2 and A? */
static bool weighs_gradient(const ffn *f) {
    return has(f, MOE_POINT_SDO) && !f->on_input;
}

/* The rows that the expert sees: gathered tokens, weighted where the weight is on the input. */
static void gather_input(const ffn *f, real *rows) {
    int64_t d = f->desc->d;
    for (int64_t r = 0; r < f->rows; r++) {
        const real *x = f->X + token_of(f, r) * d;
        for (int64_t i = 0; i < d; i++)
            rows[r * d + i] = f->on_input ? f->weight[r] * x[i] : x[i];
    }
    if (f->on_input)
        store(f, MOE_POINT_SX, rows, f->rows * d);
}

static const real *gradient_of(const ffn *f, int64_t r) {
    return f->dO + token_of(f, r) * f->desc->d;
}

/* dO of the rows, or s*dO where the recipe stores that. */
static void gather_gradient(const ffn *f, real *rows) {
    int64_t d = f->desc->d;
    for (int64_t r = 0; r < f->rows; r++)
        for (int64_t i = 0; i < d; i++)
            rows[r * d + i] = (weighs_gradient(f) ? f->weight[r] : 1) * gradient_of(f, r)[i];
    if (weighs_gradient(f))
        loop_round(rows, f->rows * d, f->storage);
}

/* The three kinds of product (loops.h) on the unit that is played, of float32 alone. */
static moe_status linear(const ffn *f, const real *x, int64_t in, const real *w, int64_t outs,
                         const real *b, real *out) {
    if (!f->chain) {
        loop_linear(x, f->rows, in, w, outs, b, f->threads, out);
        return MOE_OK;
    }
    const moe_int_operand left = {x, in, 1, NULL, NULL, true};
    const moe_int_operand right = {w, in, 1, NULL, NULL, true};
    return moe_int_multiply_emulated(f->chain, &left, &right, f->rows, outs, in, (const void *)b,
                                     f->threads, (void *)out);
}

static moe_status times(const ffn *f, const real *g, int64_t outs, const real *w, int64_t in,
                        const int32_t *k_map, real *out) {
    if (!f->chain) {
        loop_times(g, f->rows, outs, w, in, f->threads, out);
        return MOE_OK;
    }
    const moe_int_operand left = {g, outs, 1, NULL, k_map, true};
    const moe_int_operand right = {w, 1, in, NULL, k_map, true};
    return moe_int_multiply_emulated(f->chain, &left, &right, f->rows, in, outs, NULL, f->threads,
                                     (void *)out);
}

static moe_status outer(const ffn *f, const real *g, int64_t outs, const real *x, int64_t in,
                        real *out) {
    if (!f->chain) {
        loop_outer(g, f->rows, outs, x, in, f->threads, out);
        return MOE_OK;
    }
    const moe_int_operand left = {g, 1, outs, NULL, NULL, true};
    const moe_int_operand right = {x, 1, in, NULL, NULL, true};
    return moe_int_multiply_emulated(f->chain, &left, &right, outs, in, f->rows, NULL, f->threads,
                                     (void *)out);
}

moe_status ffn_forward(const ffn *f) {
    int64_t d = f->desc->d, rows = f->rows;
    real *x = alloc(rows * d);
    if (!x)
        return MOE_E_NOMEM;
    gather_input(f, x);
    moe_status status = linear(f, x, d, f->W1, f->hw, f->b1, f->H);
    free(x);
    if (status)
        return status;
    store(f, MOE_POINT_H, f->H, rows * f->hw);
    for (int64_t r = 0; r < rows; r++)
        act_forward_in(f->desc, f->layout, f->n, inner_of(f), f->H + r * f->hw, f->A + r * f->n);
    store(f, MOE_POINT_A, f->A, rows * f->n);
    status = linear(f, f->A, f->n, f->W2, d, f->b2, f->Y);
    store(f, MOE_POINT_Y, f->Y, rows * d);
    return status;
}

/* sum_r s_r g[r][i], rounded; s NULL means 1. */
static void column_sums(const ffn *f, const real *g, int64_t width, const real *s, real *ret) {
    for (int64_t i = 0; i < width; i++) {
        real sum = 0;
        for (int64_t r = 0; r < f->rows; r++)
            sum += s ? s[r] * g[r * width + i] : g[r * width + i];
        ret[i] = sum;
    }
    loop_round(ret, width, f->storage);
}

/* The same where the gradient has its weight already: da is dA and becomes A. */
static void backward_weighted_row(const ffn *f, int64_t r, real *da) {
    int64_t n = f->n, d = f->desc->d;
    const real *dy = gradient_of(f, r), *y = f->Y + r * d;
    real ds = 0;
    for (int64_t i = 0; i < d; i++)
        ds += dy[i] * y[i];
    act_backward_in(f->desc, f->layout, n, inner_of(f), f->H + r * f->hw, da, f->dH + r * f->hw);
    for (int64_t j = 0; j < n; j++)
        da[j] = f->A[r * n + j];
    f->dS[r] = ds;
}

/* Row r: from da = dA' (overwritten by A') to dS and dH. */
static void backward_row(const ffn *f, int64_t r, const real *dy, real *da, real *fresh) {
    int64_t n = f->n, d = f->desc->d;
    real w = f->on_input ? 1 : f->weight[r], ds = 0;
    act_forward_in(f->desc, f->layout, n, inner_of(f), f->H + r * f->hw, fresh);
    for (int64_t j = 0; j < n; j++)
        ds += da[j] * fresh[j];
    for (int64_t i = 0; f->b2 && i < d; i++)
        ds += dy[i] * f->b2[i];
    for (int64_t j = 0; j < n; j++)
        da[j] *= w;
    act_backward_in(f->desc, f->layout, n, inner_of(f), f->H + r * f->hw, da, f->dH + r * f->hw);
    for (int64_t j = 0; j < n; j++)
        da[j] = w * fresh[j];
    if (!f->on_input)
        f->dS[r] = ds;
}

/* Parameter gradients: dy = gathered dO, a = A' (or s*dO and A), x = the expert's input rows. */
static moe_status parameter_gradients(const ffn *f, const real *dy, const real *a, const real *x) {
    int64_t d = f->desc->d, n = f->n, hw = f->hw;
    moe_status status = outer(f, dy, d, a, n, f->dW2);
    loop_round(f->dW2, d * n, f->storage);
    if (!status)
        status = outer(f, f->dH, hw, x, d, f->dW1);
    loop_round(f->dW1, hw * d, f->storage);
    if (f->db2)
        column_sums(f, dy, d, f->on_input || weighs_gradient(f) ? NULL : f->weight, f->db2);
    if (f->db1)
        column_sums(f, f->dH, hw, NULL, f->db1);
    return status;
}

/* With the weight on the input, w_r scales x_r: dS_r = <dX~_r, x_r>. */
static void input_weight_gradient(const ffn *f) {
    int64_t d = f->desc->d;
    for (int64_t r = 0; r < f->rows; r++) {
        const real *x = f->X + token_of(f, r) * d;
        real sum = 0;
        for (int64_t i = 0; i < d; i++)
            sum += f->dXp[r * d + i] * x[i];
        f->dS[r] = sum;
    }
}

/* From dy = gathered dO to dH, dS and dX~; a becomes A' (or A), `fresh` is room for a row of it. */
static moe_status row_gradients(const ffn *f, const real *dy, real *a, real *fresh) {
    int64_t d = f->desc->d, rows = f->rows;
    moe_status status = times(f, dy, d, f->W2, f->n, NULL, a);
    store(f, MOE_POINT_DA, a, rows * f->n);
    for (int64_t r = 0; r < rows; r++)
        if (weighs_gradient(f))
            backward_weighted_row(f, r, a + r * f->n);
        else
            backward_row(f, r, dy + r * d, a + r * f->n, fresh);
    store(f, f->on_input ? MOE_POINT_A : MOE_POINT_SA, a, rows * f->n);
    store(f, MOE_POINT_DH, f->dH, rows * f->hw);
    if (!status)
        status = times(f, f->dH, f->hw, f->W1, d, f->gates_first, f->dXp);
    store(f, MOE_POINT_DXP, f->dXp, rows * d);
    if (f->on_input)
        input_weight_gradient(f);
    return status;
}

moe_status ffn_backward(const ffn *f) {
    int64_t d = f->desc->d, rows = f->rows;
    real *dy = alloc(rows * d), *a = alloc(rows * f->n), *fresh = alloc(f->n);
    real *x = f->dW1 ? alloc(rows * d) : NULL;
    moe_status status = dy && a && fresh && (x || !f->dW1) ? MOE_OK : MOE_E_NOMEM;
    if (!status) {
        gather_gradient(f, dy);
        status = row_gradients(f, dy, a, fresh);
    }
    if (!status && f->dW1) {
        gather_input(f, x);
        status = parameter_gradients(f, dy, a, x);
    }
    free(dy);
    free(a);
    free(fresh);
    free(x);
    return status;
}
