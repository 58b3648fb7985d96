/* Activations from pre-activations, and the sums over a token's experts: every element. */
#include "check/identity/elements.h"
#include "reference/activation.h"

#include <math.h>
#include <stdlib.h>

/* Storing moves a value by at most u of it: sqrt(3) deviations. What lies nearer needs no model of
 * the rest. */
#define STORED_ALONE 3.0

/* Element j of a row in which h lies: the whole model of its error (errors/unit.c). */
static double unit_variance(const moe_layer_desc *desc, const moe_int_rounding *r, const double *h,
                            int64_t j) {
    int64_t width = moe_h_width(desc, desc->n);
    moe_int_unit unit = {.parts = width == desc->n ? 1 : 2};
    for (int up = 0; up < unit.parts; up++)
        unit.h[up] = h[moe_h_column(desc->glu_layout, desc->n, width, j, up)];
    moe_int_unit_errors(desc, r, false, &unit);
    return r->u2 * (unit.va + moe_int_stored(r, unit.a));
}

moe_status moe_int_activation_check(const moe_layer_desc *desc, const moe_int_rounding *r,
                                    const moe_tensor *H, const moe_tensor *A, int64_t row,
                                    moe_int_gap *ret) {
    int64_t n = desc->n, width = moe_h_width(desc, n);
    double *h = malloc((size_t)(width + 2 * n) * sizeof *h);
    if (!h)
        return MOE_E_NOMEM;
    double *want = h + width, *got = want + n;
    moe_int_load(H, row * width, width, h);
    moe_int_load(A, row * n, n, got);
    moe_int_act_forward_f64(desc, desc->glu_layout, n, h, want);
    for (int64_t j = 0; j < n; j++) {
        double off = (got[j] - want[j]) * (got[j] - want[j]);
        moe_int_gap one = {.got = got[j], .want = want[j], .index = j};
        if (off <= STORED_ALONE * r->u2 * want[j] * want[j])
            continue;
        one.z = moe_int_gap_z(got[j], want[j], unit_variance(desc, r, h, j));
        moe_int_gap_note(ret, &one);
    }
    free(h);
    return MOE_OK;
}

/* sum += w row, square += storing of the terms (twice: as they were made, as they are weighed) and
 * of partial sums. */
static void add_term(const moe_int_token_sum *s, const moe_int_rounding *r, double w, double terms,
                     const double *row, double *sum, double *square) {
    for (int64_t i = 0; i < s->d; i++) {
        double v = w * row[i];
        sum[i] += v;
        square[i] += moe_int_stored(r, v) * (2 + moe_int_adding(r, terms));
        square[i] += s->added_low ? moe_int_stored(r, sum[i]) : 0;
    }
}

moe_status moe_int_token_sum_check(const moe_int_token_sum *s, const moe_int_rounding *r, int64_t t,
                                   moe_int_gap *ret) {
    int64_t from = s->plan->token_offsets[t], to = s->plan->token_offsets[t + 1], d = s->d;
    double *sum = calloc(3 * (size_t)d, sizeof *sum), *square = sum + d, *row = square + d;
    if (!sum)
        return MOE_E_NOMEM;
    for (int64_t k = from; k < to; k++) {
        int64_t p = s->plan->pair_of_token[k];
        bool zero = p >= s->real;
        moe_int_load(zero ? s->itself : s->rows, (zero ? t : p) * d, d, row);
        double w = zero ? s->zero[p] : s->weight ? s->weight[p] : 1;
        add_term(s, r, w, (double)(to - from), row, sum, square);
    }
    moe_int_load(s->out, t * d, d, row);
    for (int64_t i = 0; i < d; i++) {
        moe_int_gap one = {.got = row[i], .want = sum[i], .index = i};
        one.z = moe_int_gap_z(row[i], sum[i], r->u2 * (square[i] + moe_int_stored(r, sum[i])));
        moe_int_gap_note(ret, &one);
    }
    free(sum);
    return MOE_OK;
}
