/* What a step makes of rows that it reads otherwise: a difference of rows, times the matrix. */
#include "check/explain/reread.h"
#include "core/elements.h"
#include "route/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t width_of(const moe_layer_desc *desc, moe_tensor_id stage) {
    return stage == MOE_T_H || stage == MOE_T_DH ? moe_h_width(desc, desc->n)
           : stage == MOE_T_A                    ? desc->n
                                                 : desc->d;
}

/* Wrong rows evenly spread, and as many right ones. */
static void choose_rows(moe_int_reread *k) {
    const moe_int_sight *p = k->l->p;
    enum { HALF = MOE_INT_REREAD_ROWS / 2 };
    const int64_t right = p->rows - p->wrong_rows;
    int64_t seen = 0;
    k->rows = moe_int_local_rows(p, HALF, k->row);
    for (int64_t r = 0, taken = 0; r < p->rows && taken < HALF; r++)
        if (!p->row[r].wrong && seen++ * (right < HALF ? right : HALF) / right == taken) {
            k->row[k->rows++] = r;
            taken++;
        }
}

/* Half of the wrong columns, half of all. */
static void choose_columns(moe_int_reread *k) {
    const moe_int_sight *p = k->l->p;
    enum { HALF = MOE_INT_REREAD_COLUMNS / 2 };
    int64_t wrong = 0, seen = 0;
    for (int64_t c = 0; c < p->width; c++)
        wrong += moe_int_sight_wrong_column(p, c);
    for (int64_t c = 0; c < p->width && k->columns < HALF; c++)
        if (moe_int_sight_wrong_column(p, c) &&
            seen++ * (wrong < HALF ? wrong : HALF) / wrong == k->columns)
            k->column[k->columns++] = c;
    for (int64_t i = 0; i < HALF; i++)
        k->column[k->columns++] = i * p->width / HALF;
}

static bool list_need(moe_int_reread *k) {
    const bool parts = !k->units;
    k->n_need = parts ? k->columns : k->width;
    k->need = malloc((size_t)k->n_need * sizeof *k->need + 1);
    for (int64_t i = 0; k->need && i < k->n_need; i++)
        k->need[i] = parts ? k->column[i] : i;
    return k->need != NULL;
}

/* The pairs of the rows: a token's, or the pair that a row is of. */
static bool list_pairs(moe_int_reread *k) {
    const moe_int_sight *p = k->l->p;
    const bool of_token = p->id == MOE_T_O || p->id == MOE_T_DX;
    const int64_t *first = k->plan->token_offsets;
    int64_t room = 0, listed = 0;
    for (int64_t i = 0; i < k->rows; i++)
        room += of_token ? first[k->row[i] + 1] - first[k->row[i]] : 1;
    k->pair = malloc((size_t)room * sizeof *k->pair + 1);
    k->weight = malloc((size_t)room * sizeof *k->weight + 1);
    for (int64_t i = 0; k->pair && k->weight && i < k->rows; i++) {
        const int64_t begin = of_token ? first[k->row[i]] : 0;
        const int64_t end = of_token ? first[k->row[i] + 1] : 1;
        k->first[i] = listed;
        for (int64_t j = begin; j < end; j++) {
            const int64_t pair = of_token ? k->plan->pair_of_token[j] : k->row[i];
            if (pair >= k->pairs)
                continue;
            k->pair[listed] = pair;
            k->weight[listed++] = p->id == MOE_T_O ? k->plan->weight[pair] : 1;
        }
    }
    k->first[k->rows] = listed;
    return k->pair && k->weight && listed > 0;
}

/* ret [units]: column c of what the parts of pair `listed` are products with. */
static void load_matrix(const moe_int_reread *k, int64_t pair, int64_t c, double *ret) {
    const moe_problem *problem = k->l->p->e->problem;
    const int64_t e = moe_int_plan_expert_of(k->plan, pair), d = problem->layer.d;
    if (k->stage != MOE_T_DH) {
        moe_int_load(&problem->in.t[MOE_T_W2], (e * d + c) * k->units, k->units, ret);
        return;
    }
    const moe_tensor *W1 = &problem->in.t[MOE_T_W1];
    for (int64_t j = 0; j < k->units; j++)
        ret[j] = moe_load(W1->data, W1->dtype, (size_t)((e * k->units + j) * d + c));
}

/* A of a row of H. */
static void activate(const moe_int_reread *k, const double *h, double *ret) {
    const moe_layer_desc *desc = &k->l->p->e->problem->layer;
    const moe_int_change right = {.desc = *desc};
    const int64_t hw = k->width;
    for (int64_t j = 0; j < desc->n; j++) {
        double at[2] = {0, 0}, slope[2];
        for (int up = 0; up < (hw == desc->n ? 1 : 2); up++)
            at[up] = h[moe_h_column(desc->glu_layout, desc->n, hw, j, up)];
        moe_int_changed_act(&right, at, &ret[j], slope);
    }
}

/* What a product is taken of: the row, or A of it. */
static const double *factor_of(const moe_int_reread *k, const double *row, double *room) {
    if (k->stage != MOE_T_H)
        return row;
    activate(k, row, room);
    return room;
}

double moe_int_reread_at(const moe_int_reread *k, int64_t at) {
    return moe_load(k->from->data, k->from->dtype, (size_t)at);
}

/* Numbers of matrices that are held at once: 64 MiB. */
enum { MOST_NUMBERS = 1 << 23 };

static bool load_all(moe_int_reread *k) {
    const moe_int_sight *p = k->l->p;
    const int64_t listed = k->first[k->rows];
    if (listed * k->columns * k->units > MOST_NUMBERS)
        return false;
    k->own = malloc((size_t)(listed * k->n_need) * sizeof *k->own + 1);
    k->error = malloc((size_t)(k->rows * k->columns) * sizeof *k->error + 1);
    k->room = malloc((size_t)(2 * k->n_need + 2 * k->units + k->columns) * sizeof *k->room + 1);
    if (k->units)
        k->matrix = malloc((size_t)(listed * k->columns * k->units) * sizeof *k->matrix + 1);
    if (!k->own || !k->error || !k->room || (k->units && !k->matrix))
        return false;
    for (int64_t i = 0; i < listed; i++) {
        for (int64_t j = 0; j < k->n_need; j++)
            k->own[i * k->n_need + j] = moe_int_reread_at(k, k->pair[i] * k->width + k->need[j]);
        for (int64_t c = 0; k->units && c < k->columns; c++)
            load_matrix(k, k->pair[i], k->column[c], k->matrix + (i * k->columns + c) * k->units);
    }
    for (int64_t i = 0; i < k->rows; i++)
        for (int64_t c = 0; c < k->columns; c++) {
            const double off = moe_int_sight_got(p, k->row[i], k->column[c]) -
                               moe_int_sight_want(p, k->row[i], k->column[c]);
            k->error[i * k->columns + c] = off;
            k->d2 += off * off;
        }
    return k->d2 > 0 && isfinite(k->d2);
}

bool moe_int_reread_make(const moe_int_local *l, moe_tensor_id stage, moe_int_reread *ret) {
    const moe_int_evidence *e = l->p->e;
    const moe_layer_desc *desc = &e->problem->layer;
    const bool is_part = stage == MOE_T_Y || stage == MOE_T_DXP;
    *ret = (moe_int_reread){.l = l,
                            .plan = e->routing->plan,
                            .stage = stage,
                            .from = moe_int_local_operand(e, stage),
                            .pairs = e->routing->plan->offsets[desc->E],
                            .width = width_of(desc, stage),
                            .units = is_part             ? 0
                                     : stage == MOE_T_DH ? width_of(desc, stage)
                                                         : desc->n};
    if (!ret->from || e->truth->sampled || !moe_int_sight_is_whole(l->p) || l->p->only_row ||
        l->p->only_column || l->p->odd > 0 || desc->router.weight_on == MOE_WEIGHT_ON_INPUT)
        return false;
    choose_rows(ret);
    choose_columns(ret);
    return list_need(ret) && list_pairs(ret) && load_all(ret);
}

void moe_int_reread_destroy(moe_int_reread *k) {
    free(k->need);
    free(k->pair);
    free(k->weight);
    free(k->own);
    free(k->error);
    free(k->matrix);
    free(k->room);
}

/* Takes out of error [columns] what listed pair i has too much when it is read as `how` says. */
static void take_out(const moe_int_reread *k, moe_int_read_fn *read, const void *how, int64_t i,
                     double *error) {
    double *row = k->room + k->columns, *before = row + 2 * k->n_need;
    const double *own = k->own + i * k->n_need;
    if (!read(k, how, k->pair[i], row))
        return;
    if (!k->units) {
        for (int64_t c = 0; c < k->columns; c++)
            error[c] -= k->weight[i] * (row[c] - own[c]);
        return;
    }
    const double *was = factor_of(k, own, before), *is = factor_of(k, row, before + k->units);
    for (int64_t c = 0; c < k->columns; c++) {
        const double *with = k->matrix + (i * k->columns + c) * k->units;
        error[c] -=
            k->weight[i] * (moe_int_inner(with, is, k->units) - moe_int_inner(with, was, k->units));
    }
}

double moe_int_reread_left(const moe_int_reread *k, moe_int_read_fn *read, const void *how,
                           double most) {
    double left = 0, *error = k->room;
    for (int64_t r = 0; r < k->rows && left <= most; r++) {
        memcpy(error, k->error + r * k->columns, (size_t)k->columns * sizeof *error);
        for (int64_t i = k->first[r]; i < k->first[r + 1]; i++)
            take_out(k, read, how, i, error);
        left += moe_int_inner(error, error, k->columns);
    }
    return left;
}
