/* One expert backward: dA' = dO W2, dS = <dA', A> + <dO, b2>, dH = act'(H) s dA', dX~ = dH W1, and
 * the gradients of its parameters. A is computed again from H. */
#include "faulty.h"

#include <stdlib.h>
#include <string.h>

enum { ONE_EXPERT = 3 };

static float weight_of(const fy_expert *x, int64_t r) {
    return x->on_input ? 1 : x->weight[r];
}

/* What A is multiplied by for dW2. */
static float weight_of_A(const fy_layer *l, const fy_expert *x, int64_t r) {
    const float s = weight_of(x, r);
    return x->e < 0 ? s : FAULT(l, dW2_unweighted) ? 1 : FAULT(l, dW2_weight_twice) ? s * s : s;
}

/* What dA' is multiplied by for dH. */
static float weight_of_dA(const fy_layer *l, const fy_expert *x, int64_t r) {
    const float s = weight_of(x, r);
    return x->e < 0 ? s : FAULT(l, dH_unweighted) ? 1 : FAULT(l, dH_weight_twice) ? s * s : s;
}

/* Row r: from dA' (overwritten by A') to dS and dH. */
static void backward_row(const fy_layer *l, const fy_expert *x, int64_t r, const float *dy,
                         float *da) {
    const float *h = x->H + r * x->hw;
    float *dh = x->dH + r * x->hw, ds = 0;
    const float s_a = weight_of_A(l, x, r), s_da = weight_of_dA(l, x, r);
    for (int64_t j = 0; j < x->n; j++) {
        const int64_t g = fy_column(l, x, j, 0), u = fy_column(l, x, j, 1);
        const fy_unit unit = fy_activate(l, h[g], h[u]);
        ds += da[j] * (FAULT(l, dS_of_slope) ? unit.d_gate : unit.a);
        dh[g] = s_da * da[j] * unit.d_gate;
        if (x->hw > x->n)
            dh[u] = s_da * da[j] * unit.d_up;
        da[j] = s_a * unit.a;
    }
    for (int64_t i = 0; x->b2 && !FAULT(l, dS_without_b2) && i < l->desc.d; i++)
        ds += dy[i] * x->b2[i];
    if (FAULT(l, dS_of_dO)) {
        ds = 0;
        for (int64_t i = 0; i < l->desc.d; i++)
            ds += dy[i];
    }
    if (FAULT(l, dS_weighted) && x->e >= 0)
        ds *= x->weight[r];
    if (!x->on_input)
        x->dS[r] = ds;
}

/* ret[i] = sum_r s[r] g[r][i]; s NULL means 1. */
static void column_sums(const fy_layer *l, const float *g, int64_t rows, int64_t width,
                        const float *s, float *ret) {
    memset(ret, 0, (size_t)width * sizeof *ret);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++)
            ret[i] += s ? s[r] * g[r * width + i] : g[r * width + i];
    fy_store(l, ret, width);
}

/* ret += or = left^T right, rounded: a gradient of [width_l][width_r]. */
static moe_status outer(const fy_layer *l, fy_product_id id, const float *left, int64_t width_l,
                        const float *right, int64_t width_r, int64_t rows, float *ret) {
    float *turned = fy_floats(rows * width_l), *sum = fy_floats(width_l * width_r);
    moe_status status = turned && sum ? MOE_OK : fy_no_memory(l);
    const bool adds = (FAULT(l, dW_adds_up) && l->backwards > 1) ||
                      (FAULT(l, dW2_adds_up) && id == FY_DW2 && l->backwards > 1);
    if (!status) {
        fy_transpose(left, rows, width_l, turned);
        fy_product(l, id, turned, width_l, rows, right, width_r, sum);
        for (int64_t i = 0; i < width_l * width_r; i++)
            ret[i] = adds ? ret[i] + sum[i] : sum[i];
        fy_store(l, ret, width_l * width_r);
    }
    free(turned);
    free(sum);
    return status;
}

/* dy: gathered dO; a: A'; in: the rows that the expert saw. */
static moe_status parameter_gradients(const fy_layer *l, const fy_expert *x, const float *dy,
                                      const float *a, const float *in) {
    const int64_t d = l->desc.d;
    const bool empty = x->rows == 0 && x->e >= 0;
    if (empty && (FAULT(l, empty_dW_garbage) || FAULT(l, empty_dW_stale))) {
        for (int64_t i = 0; FAULT(l, empty_dW_garbage) && i < d * x->n; i++)
            x->dW2[i] = 0.01f * (float)(i % 7);
        return MOE_OK;
    }
    moe_status status = outer(l, FY_DW2, dy, d, a, x->n, x->rows, x->dW2);
    if (!status)
        status = outer(l, FY_DW1, x->dH, x->hw, in, d, x->rows, x->dW1);
    if (x->db2)
        column_sums(l, dy, FAULT(l, db2_missing) ? 0 : x->rows, d,
                    x->on_input || FAULT(l, db2_unweighted) ? NULL : x->weight, x->db2);
    if (x->db1)
        column_sums(l, x->dH, FAULT(l, db1_missing) ? 0 : x->rows, x->hw, NULL, x->db1);
    return status;
}

/* With the weight on the input: dS = <dX~, x>. */
static void input_weight_gradient(const fy_layer *l, const fy_expert *x) {
    const int64_t d = l->desc.d;
    for (int64_t r = 0; r < x->rows; r++) {
        const float *from = l->X + fy_token(l, x, r) * d, *dx = x->dXp + r * d;
        float sum = 0;
        for (int64_t i = 0; i < d; i++)
            sum += dx[i] * (FAULT(l, dS_of_weighted_x) ? x->weight[r] * from[i] : from[i]);
        x->dS[r] = sum;
    }
}

static void gather_gradient(const fy_layer *l, const fy_expert *x, float *ret) {
    const int64_t d = l->desc.d;
    for (int64_t r = 0; r < x->rows; r++) {
        int64_t t = fy_token(l, x, r);
        if (FAULT(l, dO_of_next_token) && x->e >= 0)
            t = t + 1 < l->T ? t + 1 : 0;
        memcpy(ret + r * d, l->dO + t * d, (size_t)d * sizeof *ret);
    }
}

/* What is wrong with dS alone, once all of an expert's rows have it. */
static void spoil_dS(const fy_layer *l, const fy_expert *x) {
    if (x->e < 0 || x->rows < 2)
        return;
    const float first = x->dS[0];
    for (int64_t r = 0; FAULT(l, dS_shifted) && r + 1 < x->rows; r++)
        x->dS[r] = x->dS[r + 1];
    if (FAULT(l, dS_shifted))
        x->dS[x->rows - 1] = first;
    if (FAULT(l, dS_zero_of_one) && x->e == ONE_EXPERT)
        memset(x->dS, 0, (size_t)x->rows * sizeof *x->dS);
    for (int64_t r = 0; FAULT(l, dS_negative) && r < x->rows; r++)
        x->dS[r] = -x->dS[r];
}

moe_status fy_expert_backward(const fy_layer *l, const fy_expert *x) {
    const int64_t d = l->desc.d;
    float *dy = fy_floats(x->rows * d), *a = fy_floats(x->rows * x->n);
    float *in = fy_floats(x->rows * d);
    moe_status status = dy && a && in ? MOE_OK : fy_no_memory(l);
    if (!status) {
        gather_gradient(l, x, dy);
        fy_product(l, FY_DA, dy, x->rows, d, x->W2, x->n, a);
        for (int64_t r = 0; r < x->rows; r++)
            backward_row(l, x, r, dy + r * d, a + r * x->n);
        fy_store(l, a, x->rows * x->n);
        fy_store(l, x->dH, x->rows * x->hw);
        fy_product(l, FY_DX, x->dH, x->rows, x->hw, x->W1, d, x->dXp);
        fy_store(l, x->dXp, x->rows * d);
        if (x->on_input)
            input_weight_gradient(l, x);
        spoil_dS(l, x);
        fy_gather(l, x, in);
        status = parameter_gradients(l, x, dy, a, in);
    }
    free(dy);
    free(a);
    free(in);
    return status;
}
