/* Sums by row and column, and naming rows. */
#include "check/explain/sight.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows of an expert's slice: of a weight gradient the first of its two dimensions. */
static int64_t rows_of_group(const moe_tensor *want, const moe_int_layout *l) {
    bool slice = !l->base && want->ndim == 3;
    return slice ? want->shape[1] : l->by == MOE_INT_WHOLE && want->ndim == 2 ? want->shape[0] : 1;
}

/* The number in the whole tensor. */
static int64_t row_number(const moe_int_sight *p, int64_t r) {
    return p->only_row ? p->only_row[r] : r;
}

static int64_t column_number(const moe_int_sight *p, int64_t c) {
    return p->only_column ? p->only_column[c] : c;
}

int64_t moe_int_sight_flat(const moe_int_sight *p, int64_t r, int64_t c) {
    const int64_t row = row_number(p, r);
    return moe_int_layout_flat(&p->layout, row / p->per_group,
                               row % p->per_group * p->stride + column_number(p, c));
}

double moe_int_sight_got(const moe_int_sight *p, int64_t r, int64_t c) {
    return moe_load(p->got->data, p->got->dtype, (size_t)moe_int_sight_flat(p, r, c));
}

double moe_int_sight_want(const moe_int_sight *p, int64_t r, int64_t c) {
    return moe_load(p->want->data, p->want->dtype,
                    (size_t)(row_number(p, r) * p->stride + column_number(p, c)));
}

int64_t moe_int_sight_expert(const moe_int_sight *p, int64_t r) {
    return moe_int_layout_expert(&p->layout, p->e->routing->plan, row_number(p, r) / p->per_group);
}

int64_t moe_int_sight_token(const moe_int_sight *p, int64_t r) {
    int64_t g = moe_int_layout_group(&p->layout, row_number(p, r) / p->per_group);
    if (p->layout.by == MOE_INT_BY_TOKEN)
        return g;
    return p->layout.by == MOE_INT_BY_PAIR ? p->e->routing->plan->token[g] : -1;
}

bool moe_int_sight_is_whole(const moe_int_sight *p) {
    return !p->layout.base;
}

/* Row r of both; of a whole tensor the subject's lies together. */
static void load_row(const moe_int_sight *p, int64_t r, double *got, double *want) {
    const bool together = moe_int_sight_is_whole(p) && !p->only_column;
    const int64_t first = row_number(p, r) * p->stride;
    if (together)
        moe_int_load(p->got, first, p->width, got);
    if (!p->only_column)
        moe_int_load(p->want, first, p->width, want);
    for (int64_t c = 0; !together && c < p->width; c++)
        got[c] = moe_int_sight_got(p, r, c);
    for (int64_t c = 0; p->only_column && c < p->width; c++)
        want[c] = moe_int_sight_want(p, r, c);
}

/* The truth of dH is NaN where rounding decides on which side of a clamp's or relu's edge a unit
 * is: there everything is right. What swallows a NaN of the input swallows a whole row of them. */
static bool is_edge(const moe_int_sight *p, const moe_int_row *row, int64_t edges) {
    return p->id == MOE_T_DH && row->odd == edges && 2 * edges <= p->width;
}

static void sum_row(moe_int_sight *p, int64_t r, double *got, double *want) {
    moe_int_row *row = &p->row[r];
    int64_t edges = 0;
    load_row(p, r, got, want);
    for (int64_t c = 0; c < p->width; c++) {
        double g = got[c], w = want[c], d = g - w;
        if (isfinite(g) != isfinite(w))
            row->odd++;
        edges += isfinite(g) && isnan(w);
        if (!isfinite(d))
            continue;
        row->d2 += d * d;
        row->r2 += w * w;
        row->g2 += g * g;
        row->gr += g * w;
        p->column_d2[c] += d * d;
        p->column_r2[c] += w * w;
    }
    if (is_edge(p, row, edges))
        row->odd = 0;
    p->d2 += row->d2;
    p->r2 += row->r2;
    p->g2 += row->g2;
    p->gr += row->gr;
    p->odd += row->odd;
}

/* A row is wrong when its error is above what the tensor's gate leaves a row of that size, or of
 * the mean size. */
static void mark_rows(moe_int_sight *p) {
    moe_gate gate = moe_gate_for(p->id, p->e->arithmetic);
    double worst = gate.group_nmse > 0 ? gate.group_nmse : 10 * gate.nmse;
    double mean = p->r2 / (double)(p->rows > 0 ? p->rows : 1);
    for (int64_t r = 0; r < p->rows; r++) {
        moe_int_row *row = &p->row[r];
        row->wrong = row->odd > 0 || row->d2 > 4 * worst * fmax(row->r2, mean);
        if (row->r2 == 0 && row->d2 > 0)
            row->wrong = true;
        p->wrong_rows += row->wrong;
    }
}

static void fill(moe_int_sight *p, int64_t rows) {
    if (rows == 0 || p->width == 0)
        return;
    p->row = calloc((size_t)rows, sizeof *p->row);
    p->column_d2 = calloc((size_t)p->width, sizeof *p->column_d2);
    p->column_r2 = calloc((size_t)p->width, sizeof *p->column_r2);
    double *room = malloc(2 * (size_t)p->width * sizeof *room);
    if (p->row && p->column_d2 && p->column_r2 && room) {
        p->rows = rows;
        for (int64_t r = 0; r < rows; r++)
            sum_row(p, r, room, room + p->width);
        mark_rows(p);
    }
    free(room);
}

void moe_int_sight_make(const moe_int_evidence *e, moe_tensor_id id, moe_int_sight *ret) {
    const moe_int_part *part = &e->truth->part[id];
    bool sampled = e->truth->sampled;
    const moe_tensor *want = sampled ? &part->want : &e->truth->oracle->out.t[id];
    *ret = (moe_int_sight){.e = e, .id = id, .got = &e->got.t[id], .want = want};
    if (!want->data || !ret->got->data)
        return;
    ret->layout = sampled ? part->layout : moe_int_layout_of(id, want);
    ret->per_group = rows_of_group(want, &ret->layout);
    ret->stride = ret->width = ret->layout.width / (ret->per_group > 0 ? ret->per_group : 1);
    fill(ret, ret->layout.groups * ret->per_group);
}

/* A sight of the same tensor, as yet of nothing; *ret_list has room for `count` numbers. */
static bool part_of(const moe_int_sight *p, int64_t count, moe_int_sight *ret, int64_t **ret_list) {
    *ret = (moe_int_sight){.e = p->e,
                           .id = p->id,
                           .got = p->got,
                           .want = p->want,
                           .layout = p->layout,
                           .per_group = p->per_group,
                           .width = p->width,
                           .stride = p->stride};
    *ret_list = malloc((size_t)(count + 1) * sizeof **ret_list);
    return *ret_list != NULL;
}

void moe_int_sight_of_columns(const moe_int_sight *p, moe_int_sight *ret) {
    int64_t count = 0;
    if (!part_of(p, p->width, ret, &ret->only_column))
        return;
    for (int64_t c = 0; c < p->width; c++)
        if (moe_int_sight_wrong_column(p, c))
            ret->only_column[count++] = c;
    ret->width = count;
    if (count < p->width)
        fill(ret, p->rows);
}

void moe_int_sight_of_rows(const moe_int_sight *p, moe_int_sight *ret) {
    int64_t count = 0;
    if (!part_of(p, p->rows, ret, &ret->only_row))
        return;
    for (int64_t r = 0; r < p->rows; r++)
        if (p->row[r].wrong)
            ret->only_row[count++] = r;
    if (count < p->rows)
        fill(ret, count);
}

void moe_int_sight_destroy(moe_int_sight *p) {
    free(p->only_row);
    free(p->only_column);
    free(p->row);
    free(p->column_d2);
    free(p->column_r2);
    memset(p, 0, sizeof *p);
}

void moe_int_sight_residuals(const moe_int_sight *p, double left, moe_int_finding *f) {
    double unit = p->r2 > 0 ? p->r2 : p->g2 > 0 ? p->g2 : 1;
    f->is.before = p->d2 / unit + (p->odd > 0 ? 1 : 0); /* no number: as wrong as all zero */
    f->is.after = left / unit;
}

bool moe_int_sight_wrong_column(const moe_int_sight *p, int64_t c) {
    moe_gate gate = moe_gate_for(p->id, p->e->arithmetic);
    double mean = p->r2 / (double)p->width;
    return p->column_d2[c] > 10 * gate.nmse * fmax(p->column_r2[c], mean);
}
