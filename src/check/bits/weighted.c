/* dW2 = dO^T (s A). Where s A was stored it is gone, but H is there, and A' is the rounding of what
 * follows from it, but for a few elements near the middle between two numbers. For those both are
 * tried, column by column: one choice of them must explain all d elements of the column. */
#include "check/bits/compare.h"

#include <stdlib.h>
#include <string.h>

enum {
    LANES = MOE_INT_LANES,
    MOST_OPEN = 6, /* elements of a column; with more of them it stays undecided */
    PROBES = 16    /* rows of a column that tell one choice from another */
};

/* What is tried for one expert. */
typedef struct expert {
    const moe_int_bits_run *c;
    const moe_tensor *got;
    const moe_int_chain *chain;
    int64_t e, first, rows, d, n;
    moe_int_packed left;  /* dO, [d][rows] */
    uint16_t *low, *high; /* A' [rows][n] */
} expert;

static uint16_t code_of(float x, moe_dtype dtype) {
    uint16_t code;
    moe_convert(&code, dtype, &x, MOE_F32, 1);
    return code;
}

static void fill_codes(const expert *x) {
    const moe_int_bits_run *c = x->c;
    const moe_int_spans spans = moe_int_bits_spans(c, x->chain);
    const moe_layer_desc *desc = spans.desc;
    const int64_t hw = moe_h_width(desc, x->n);
    for (int64_t i = 0; i < x->rows * x->n; i++) {
        const int64_t row = x->first + i / x->n;
        const bool on_input = desc->router.weight_on == MOE_WEIGHT_ON_INPUT;
        const double s = on_input ? 1 : moe_int_weight_of(&c->source, row);
        double h[2] = {0, 0};
        for (int up = 0; up < hw / x->n; up++)
            h[up] = moe_load(
                c->source.from, c->dtype,
                (size_t)(row * hw + moe_h_column(desc->glu_layout, x->n, hw, i % x->n, up)));
        const moe_int_span span = moe_int_span_of_act(&spans, h, s, 1);
        x->low[i] = code_of(span.low, c->dtype);
        x->high[i] = code_of(span.high, c->dtype);
    }
}

/* Open elements of column j that come before row `row`. */
static int open_before(const expert *x, int64_t j, int64_t row) {
    int open = 0;
    for (int64_t r = 0; r < row; r++)
        open += x->low[r * x->n + j] != x->high[r * x->n + j];
    return open;
}

/* Columns j0 .. of A', column l by choice[l], a bit for each open element. */
static moe_status pack(const expert *x, int64_t j0, const uint32_t *choice, moe_int_packed *ret) {
    const int64_t width = x->n - j0 < LANES ? x->n - j0 : LANES;
    uint16_t *codes = malloc((size_t)(x->rows * LANES) * sizeof *codes);
    const moe_int_operand from = {codes, 1, LANES, NULL, NULL, false};
    if (!codes)
        return MOE_E_NOMEM;
    for (int64_t l = 0; l < width; l++)
        for (int64_t r = 0, open = 0; r < x->rows; r++) {
            const int64_t at = r * x->n + j0 + l;
            const bool up = x->low[at] != x->high[at] && (choice[l] >> open++ & 1);
            codes[r * LANES + l] = up ? x->high[at] : x->low[at];
        }
    moe_status status =
        moe_int_pack(&from, x->chain->format, MOE_INT_PACK_RIGHT | moe_int_chain_packing(x->chain),
                     0, width, x->rows, ret);
    free(codes);
    return status;
}

/* Rows first, first + step ... of the columns of a group: an outcome for each. */
static void hold_rows(const expert *x, int64_t j0, const moe_int_packed *right, int64_t count,
                      moe_int_bits_outcome *ret) {
    float sum[LANES];
    for (int64_t i = 0; i < count; i++) {
        moe_int_chain_row(x->chain, &x->left, i, right, 0, sum);
        for (int64_t l = 0; l < right->count; l++) {
            const float want = (float)moe_round_to(sum[l], x->c->dtype);
            const int64_t at = (x->e * x->d + i) * x->n + j0 + l;
            moe_int_bits_hold(x->got, at, (moe_int_span){.low = want, .high = want}, &ret[l]);
        }
    }
}

/* Differences of each column under one choice, in its first `count` rows. */
static moe_status try_choice(const expert *x, int64_t j0, uint32_t choice, int64_t count,
                             int64_t *differ) {
    uint32_t all[LANES];
    moe_int_bits_outcome o[LANES] = {{0}};
    moe_int_packed right = {0};
    for (int l = 0; l < LANES; l++)
        all[l] = choice;
    moe_status status = pack(x, j0, all, &right);
    if (!status)
        hold_rows(x, j0, &right, count, o);
    for (int l = 0; l < LANES; l++)
        differ[l] = o[l].differ;
    moe_int_packed_destroy(&right);
    return status;
}

/* The choice of each column that explains most of it: of those with the same first rows, which
 * rounding may hide, all rows tell. */
static moe_status choose(const expert *x, int64_t j0, int most_open, uint32_t *ret) {
    const uint32_t choices = 1u << most_open;
    const int64_t probes = x->d < PROBES ? x->d : PROBES;
    int64_t differ[1 << MOST_OPEN][LANES], least[LANES], whole[LANES];
    moe_status status = MOE_OK;
    for (int l = 0; l < LANES; l++)
        least[l] = whole[l] = INT64_MAX;
    for (uint32_t a = 0; !status && a < choices; a++) {
        status = try_choice(x, j0, a, probes, differ[a]);
        for (int l = 0; l < LANES; l++)
            least[l] = differ[a][l] < least[l] ? differ[a][l] : least[l];
    }
    for (uint32_t a = 0; !status && a < choices; a++) {
        int64_t all[LANES];
        bool leads = false;
        for (int l = 0; l < LANES; l++)
            leads |= differ[a][l] == least[l] && whole[l] > 0;
        if (leads)
            status = try_choice(x, j0, a, x->d, all);
        for (int l = 0; leads && l < LANES; l++)
            if (differ[a][l] == least[l] && all[l] < whole[l]) {
                whole[l] = all[l];
                ret[l] = a;
            }
    }
    return status;
}

static moe_status hold_group(const expert *x, int64_t j0, moe_int_bits_outcome *ret) {
    uint32_t choice[LANES] = {0};
    moe_int_bits_outcome o[LANES] = {{0}};
    moe_int_packed right = {0};
    int most = 0, open[LANES] = {0};
    for (int64_t l = 0; l < LANES && j0 + l < x->n; l++) {
        open[l] = open_before(x, j0 + l, x->rows);
        most = open[l] > most && open[l] <= MOST_OPEN ? open[l] : most;
    }
    moe_status status = most > 0 ? choose(x, j0, most, choice) : MOE_OK;
    if (!status)
        status = pack(x, j0, choice, &right);
    if (!status)
        hold_rows(x, j0, &right, x->d, o);
    for (int64_t l = 0; !status && l < right.count; l++) {
        if (open[l] > MOST_OPEN)
            o[l] = (moe_int_bits_outcome){.elements = x->d, .undecided = x->d};
#pragma omp critical(moe_int_bits_outcome)
        moe_int_bits_add(ret, &o[l], x->e);
    }
    moe_int_packed_destroy(&right);
    return status;
}

static moe_status hold_expert(expert *x, int64_t step, moe_int_bits_outcome *ret) {
    const moe_int_bits_run *c = x->c;
    const moe_int_operand dO = {.codes = c->source.dO,
                                .i_stride = 1,
                                .k_stride = x->d,
                                .k_map = c->source.plan->token + x->first};
    const size_t bytes = (size_t)(x->rows * x->n + 1) * sizeof *x->low;
    x->low = malloc(bytes);
    x->high = malloc(bytes);
    moe_status status = x->low && x->high ? MOE_OK : MOE_E_NOMEM;
    if (!status)
        status = moe_int_pack(&dO, x->chain->format, moe_int_chain_packing(x->chain), 0, x->d,
                              x->rows, &x->left);
    if (!status) {
        fill_codes(x);
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
        for (int64_t j = x->e % step * LANES; j < x->n; j += step * LANES)
            if (hold_group(x, j, ret)) {
#pragma omp critical(moe_int_bits_outcome)
                status = MOE_E_NOMEM;
            }
    }
    moe_int_packed_destroy(&x->left);
    free(x->low);
    free(x->high);
    return status;
}

moe_status moe_int_bits_weighted(const moe_int_bits_run *c, const moe_tensor *got,
                                 const moe_int_chain *chains, size_t count,
                                 moe_int_bits_outcome *ret) {
    const moe_layer_desc *desc = &c->subject->problem->layer;
    const moe_plan *plan = c->source.plan;
    int64_t blocks = 0;
    moe_status status = MOE_OK;
    for (int64_t e = 0; e < desc->E; e++)
        blocks += desc->d * desc->n * ((plan->offsets[e + 1] - plan->offsets[e] + 15) / 16);
    for (size_t a = 0; a < count; a++) {
        ret[a].total = desc->E * desc->d * desc->n;
        for (int64_t e = 0; !status && e < desc->E; e++) {
            expert x = {.c = c,
                        .got = got,
                        .chain = &chains[a],
                        .e = e,
                        .first = plan->offsets[e],
                        .rows = plan->offsets[e + 1] - plan->offsets[e],
                        .d = desc->d,
                        .n = desc->n};
            status = hold_expert(&x, moe_int_bits_step(c, blocks, count), &ret[a]);
        }
    }
    return status;
}
