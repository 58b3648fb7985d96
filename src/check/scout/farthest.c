#include "check/scout/farthest.h"
#include "core/elements.h"
#include "core/samples.h"
#include "layer/traits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 512 };

/* How far two rows lie apart. */
typedef struct gap {
    double d2, r2, most2; /* sums of squares, of differences and of the row; the largest of one */
} gap;

static void add_gap(gap *g, double got, double fast) {
    const double d = got == fast ? 0 : got - fast;
    const double square = isnan(d) ? INFINITY : d * d;
    g->d2 += square;
    g->r2 += fast * fast;
    g->most2 = fmax(g->most2, square);
}

/* Rows that nearly cancel err by as much as others: they count as a hundredth of the mean. */
#define LEAST_SHARE 0.01

/* Ranks `groups` times `count` rows of `width` elements by both measures. */
static void rank_rows(const gap *g, int64_t groups, int64_t count, int64_t width,
                      moe_int_largest ret[2]) {
    ret[0] = ret[1] = (moe_int_largest){.most = MOE_INT_MOST_KEPT};
    for (int64_t first = 0; first < groups * count; first += count) {
        double least = 0;
        for (int64_t i = first; i < first + count; i++)
            least += LEAST_SHARE / (double)count * g[i].r2;
        for (int64_t i = first; i < first + count; i++) {
            if (!(g[i].d2 > 0)) /* nothing to look at */
                continue;
            moe_int_keep_largest(&ret[0], g[i].d2 / (g[i].r2 + least), i);
            moe_int_keep_largest(&ret[1], g[i].most2 * (double)width / (g[i].r2 + least), i);
        }
    }
}

/* got and fast hold `count` rows of `width` elements. */
static void row_gaps(const moe_tensor *got, const moe_tensor *fast, int64_t count, int64_t width,
                     gap *ret) {
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < count; r++) {
        double a[CHUNK], b[CHUNK];
        for (int64_t c = 0; c < width; c += CHUNK) {
            const int64_t n = width - c < CHUNK ? width - c : CHUNK;
            moe_int_load(got, r * width + c, n, a);
            moe_int_load(fast, r * width + c, n, b);
            for (int64_t i = 0; i < n; i++)
                add_gap(&ret[r], a[i], b[i]);
        }
    }
}

/* The same of columns: got and fast are `count` matrices [rows][width]; ret [count][width]. */
static void column_gaps(const moe_tensor *got, const moe_tensor *fast, int64_t count, int64_t rows,
                        int64_t width, gap *ret) {
    const int64_t chunks = (width + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static) collapse(2)
    for (int64_t m = 0; m < count; m++)
        for (int64_t k = 0; k < chunks; k++) {
            double a[CHUNK], b[CHUNK];
            const int64_t c = k * CHUNK, n = width - c < CHUNK ? width - c : CHUNK;
            for (int64_t r = 0; r < rows; r++) {
                moe_int_load(got, (m * rows + r) * width + c, n, a);
                moe_int_load(fast, (m * rows + r) * width + c, n, b);
                for (int64_t i = 0; i < n; i++)
                    add_gap(&ret[m * width + c + i], a[i], b[i]);
            }
        }
}

static void note_tensor(moe_int_farthest *f, moe_tensor_id id) {
    const size_t used = strlen(f->tensors);
    snprintf(f->tensors + used, sizeof f->tensors - used, "%s%s", used ? ", " : "",
             moe_tensor_name(id));
}

/* ---- tensors ---- */

typedef struct search {
    const moe_problem *problem;
    const moe_plan *plan;
    const moe_tensors *got, *fast;
    moe_int_farthest *found;
} search;

/* Of both sets, in one shape. */
static bool has(const search *k, moe_tensor_id id) {
    const moe_tensor *a = &k->got->t[id], *b = &k->fast->t[id];
    return a->data && b->data && moe_tensor_same_shape(a, b);
}

/* O or dX, [T][d]. */
static moe_status look_at_tokens(const search *k, moe_tensor_id id) {
    const int64_t T = k->problem->T, d = k->problem->layer.d;
    moe_int_largest most[2];
    if (!has(k, id))
        return MOE_OK;
    gap *g = calloc((size_t)T + 1, sizeof *g);
    if (!g)
        return MOE_E_NOMEM;
    row_gaps(&k->got->t[id], &k->fast->t[id], T, d, g);
    rank_rows(g, 1, T, d, most);
    free(g);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < most[i].count; j++)
            moe_int_places_add_token(&k->found->places, most[i].at[j]);
    note_tensor(k->found, id);
    return MOE_OK;
}

/* dS, [all pairs]: rows of one element, whose two measures are one. */
static moe_status look_at_pairs(const search *k) {
    const int64_t pairs = k->plan->n_pairs;
    moe_int_largest most[2];
    if (!has(k, MOE_T_DS))
        return MOE_OK;
    gap *g = calloc((size_t)pairs + 1, sizeof *g);
    if (!g)
        return MOE_E_NOMEM;
    row_gaps(&k->got->t[MOE_T_DS], &k->fast->t[MOE_T_DS], pairs, 1, g);
    rank_rows(g, 1, pairs, 1, most);
    free(g);
    for (int j = 0; j < most[0].count; j++)
        moe_int_places_add_token(&k->found->places, k->plan->token[most[0].at[j]]);
    note_tensor(k->found, MOE_T_DS);
    return MOE_OK;
}

/* A kind of weight gradient: units are rows of dW1 and db1, columns of dW2. */
typedef struct unit_tensor {
    moe_tensor_id id;
    bool shared, by_column;
    int64_t width; /* elements of a unit's row */
} unit_tensor;

/* The unit that row `r` of an expert's dW1 belongs to. */
static int64_t unit_of_row(const moe_layer_desc *desc, bool shared, int64_t r) {
    const int64_t n = shared ? desc->n_shared : desc->n;
    const bool apart = shared || desc->glu_layout == MOE_GLU_CONCAT || moe_h_width(desc, n) == n;
    return apart ? r % n : r / 2;
}

static moe_status look_at_units(const search *k, const unit_tensor *t) {
    const moe_layer_desc *desc = &k->problem->layer;
    const int64_t n = t->shared ? desc->n_shared : desc->n, experts = t->shared ? 1 : desc->E;
    const int64_t rows = t->by_column ? n : moe_h_width(desc, n), count = experts * rows;
    const moe_tensor *got = &k->got->t[t->id], *fast = &k->fast->t[t->id];
    moe_int_largest most[2];
    if (!has(k, t->id))
        return MOE_OK;
    gap *g = calloc((size_t)count + 1, sizeof *g);
    if (!g)
        return MOE_E_NOMEM;
    if (t->by_column)
        column_gaps(got, fast, experts, t->width, n, g);
    else
        row_gaps(got, fast, count, t->width, g);
    rank_rows(g, experts, rows, t->width, most);
    free(g);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < most[i].count; j++) {
            const int64_t e = most[i].at[j] / rows, row = most[i].at[j] % rows;
            moe_int_places_add_unit(&k->found->places, t->shared ? -1 : e,
                                    t->by_column ? row : unit_of_row(desc, t->shared, row));
        }
    note_tensor(k->found, t->id);
    return MOE_OK;
}

moe_status moe_int_farthest_find(const moe_problem *problem, const moe_plan *plan,
                                 const moe_tensors *got, const moe_tensors *fast,
                                 moe_int_farthest *ret) {
    const int64_t d = problem->layer.d;
    const unit_tensor units[] = {{MOE_T_DW1, false, false, d},
                                 {MOE_T_DB1, false, false, 1},
                                 {MOE_T_DW2, false, true, d},
                                 {MOE_T_DW1_SHARED, true, false, d},
                                 {MOE_T_DW2_SHARED, true, true, d}};
    const search k = {problem, plan, got, fast, ret};
    *ret = (moe_int_farthest){.tensors = ""};
    moe_status status = look_at_tokens(&k, MOE_T_O);
    if (!status)
        status = look_at_tokens(&k, MOE_T_DX);
    if (!status)
        status = look_at_pairs(&k);
    for (size_t i = 0; !status && i < sizeof units / sizeof *units; i++)
        status = look_at_units(&k, &units[i]);
    return status;
}
