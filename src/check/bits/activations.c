/* A from H, and dH from H and dA', which is an exact chain: each element within the span that its
 * activation allows. */
#include "check/bits/compare.h"

enum { LANES = MOE_INT_LANES };

/* Columns of hidden unit j. */
typedef struct unit {
    int64_t column[2];
    double h[2];
    int columns;
} unit;

static unit unit_of(const moe_int_bits_run *c, int64_t row, int64_t j) {
    const moe_layer_desc *desc = &c->subject->problem->layer;
    const int64_t n = desc->n, hw = moe_h_width(desc, n);
    unit u = {.columns = (int)(hw / n)};
    for (int up = 0; up < u.columns; up++) {
        u.column[up] = moe_h_column(desc->glu_layout, n, hw, j, up);
        u.h[up] = moe_load(c->source.from, c->dtype, (size_t)(row * hw + u.column[up]));
    }
    return u;
}

static void hold_acts(const moe_int_bits_run *c, const moe_tensor *got, const moe_int_chain *chain,
                      moe_int_bits_outcome *ret) {
    const moe_int_spans spans = moe_int_bits_spans(c, chain);
    const int64_t n = spans.desc->n, rows = c->source.plan->offsets[spans.desc->E];
    ret->total = rows * n;
    for (int64_t at = 0; at < rows * n; at++) {
        const unit u = unit_of(c, at / n, at % n);
        moe_int_bits_hold(got, at, moe_int_span_of_act(&spans, u.h, 1, 0), ret);
    }
}

/* dH in row i of an expert, units j ..; the sums are dA'. */
static void hold_slopes(const moe_int_bits_product *p, const moe_int_chain *chain, int64_t i,
                        int64_t j, const float *da, moe_int_bits_outcome *ret) {
    const moe_int_bits_run *c = p->c;
    const int64_t row = c->source.plan->offsets[p->e] + i;
    const moe_int_spans spans = moe_int_bits_spans(c, chain);
    const int64_t n = spans.desc->n, hw = moe_h_width(spans.desc, n);
    const bool on_input = spans.desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
    const float s = on_input ? 1 : moe_int_weight_of(&c->source, row);
    for (int64_t l = 0; l < LANES && j + l < n; l++) {
        const unit u = unit_of(c, row, j + l);
        for (int up = 0; up < u.columns; up++)
            moe_int_bits_hold(p->got, row * hw + u.column[up],
                              moe_int_span_of_slope(&spans, u.h, (double)s * da[l], up), ret);
    }
}

moe_status moe_int_bits_activations(const moe_int_bits_run *c, moe_tensor_id id,
                                    const moe_tensor *got, const moe_int_chain *chains,
                                    size_t count, moe_int_bits_outcome *ret) {
    const moe_layer_desc *desc = &c->subject->problem->layer;
    const int64_t rows = c->source.plan->offsets[desc->E];
    const moe_int_bits_under under = {
        hold_slopes, chains, count,
        moe_int_bits_step(c, rows * desc->n * ((desc->d + 15) / 16), count)};
    moe_status status = MOE_OK;
    if (id == MOE_T_A) { /* the same for all chains */
        hold_acts(c, got, chains, &ret[0]);
        for (size_t a = 1; a < count; a++)
            ret[a] = ret[0];
        return MOE_OK;
    }
    for (size_t a = 0; a < count; a++)
        ret[a].total = rows * moe_h_width(desc, desc->n);
    for (int64_t e = 0; !status && e < desc->E; e++) {
        moe_int_bits_product p = {
            .c = c, .got = got, .exact = moe_int_exact_gradient_of(&c->source, e), .e = e};
        status = moe_int_bits_rows(&p, &under, ret);
    }
    return status;
}
