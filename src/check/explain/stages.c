/* An expert's rows from x to dX~ under a change. A product is taken over from the right run where
 * its factors are the right ones. */
#include "check/explain/scene.h"

#include <stdlib.h>
#include <string.h>

moe_status moe_int_stage_rows_alloc(int64_t rows, int64_t d, int64_t n, int64_t hw,
                                    moe_int_stage_rows *ret) {
    *ret = (moe_int_stage_rows){.rows = rows, .d = d, .n = n, .hw = hw};
    struct {
        double **at;
        int64_t width;
    } parts[] = {{&ret->x, d},   {&ret->dy, d},  {&ret->xW1, hw}, {&ret->AW2, d},
                 {&ret->H, hw},  {&ret->A, n},   {&ret->Y, d},    {&ret->dA, n},
                 {&ret->dH, hw}, {&ret->dXp, d}, {&ret->dS, 1},   {&ret->weight, 1}};
    int64_t total = 1;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        total += rows * parts[i].width;
    ret->block = calloc((size_t)total, sizeof *ret->block);
    if (!ret->block)
        return MOE_E_NOMEM;
    double *next = ret->block;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].at = next;
        next += rows * parts[i].width;
    }
    return MOE_OK;
}

static double dot(const double *a, const double *b, int64_t n) {
    double sum[4] = {0};
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++)
            sum[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        sum[0] += a[i] * b[i];
    return sum[0] + sum[1] + sum[2] + sum[3];
}

static void add(double scale, const double *x, int64_t n, double *sum) {
    for (int64_t i = 0; i < n; i++)
        sum[i] += scale * x[i];
}

/* Are `width` values of each row those of the right run? */
static bool same(const moe_int_expert_run *k, const double *mine, const double *right,
                 int64_t width) {
    size_t first = (size_t)(k->first * width), bytes = (size_t)(k->count * width) * sizeof *mine;
    return memcmp(mine + first, right + first, bytes) == 0;
}

static void take(const moe_int_expert_run *k, double *mine, const double *right, int64_t width) {
    size_t first = (size_t)(k->first * width), bytes = (size_t)(k->count * width) * sizeof *mine;
    memcpy(mine + first, right + first, bytes);
}

/* The same, kept in a narrow type between blocks of terms. */
static double narrow_dot(const moe_int_change *c, unsigned which, const double *a, const double *b,
                         int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n;) {
        const int64_t end = c->sum_block < n - i ? i + c->sum_block : n;
        for (; i < end; i++)
            sum += a[i] * b[i];
        moe_int_sum_stored(c, which, end - 1, &sum, 1);
    }
    return sum;
}

/* The rows of `in` as they go into a product with m, from row 0 on; `room` takes copies, and a row
 * more. */
static const double *factors(const moe_int_expert_run *k, const moe_int_matrix *m, int64_t width,
                             const double *in, double *room) {
    const double *first = in + k->first * width;
    if (!m->operand && !m->edit)
        return first;
    memcpy(room, first, (size_t)(k->count * width) * sizeof *room);
    moe_int_narrow(m->operand, room, k->count * width);
    for (int64_t p = 0; m->edit && p < k->count; p++)
        moe_int_edit_row(m->edit, width, room + p * width, room + k->count * width);
    return room;
}

/* out = in M^T, [count][rows of M]. */
static void times_rows(const moe_int_expert_run *k, const moe_int_matrix *m, unsigned sum,
                       const double *in, double *row, double *out) {
    const double *factor = factors(k, m, m->cols, in, row + m->cols);
    for (int64_t r = 0; r < m->rows; r++) {
        moe_int_matrix_row(m, r, row);
        for (int64_t p = k->first; p < k->first + k->count; p++) {
            const double *x = factor + (p - k->first) * m->cols;
            out[p * m->rows + r] = k->change->sums & sum
                                       ? narrow_dot(k->change, sum, x, row, m->cols)
                                       : dot(x, row, m->cols);
        }
    }
}

/* out = in M, [count][columns of M]. */
static void times_columns(const moe_int_expert_run *k, const moe_int_matrix *m, unsigned sum,
                          const double *in, double *row, double *out) {
    const double *factor = factors(k, m, m->rows, in, row + m->cols);
    memset(out + k->first * m->cols, 0, (size_t)(k->count * m->cols) * sizeof *out);
    for (int64_t r = 0; r < m->rows; r++) {
        moe_int_matrix_row(m, r, row);
        for (int64_t p = k->first; p < k->first + k->count; p++) {
            add(factor[(p - k->first) * m->rows + r], row, m->cols, out + p * m->cols);
            moe_int_sum_stored(k->change, sum, r, out + p * m->cols, m->cols);
        }
    }
}

static double bias_of(const moe_int_expert_run *k, moe_tensor_id id, unsigned without, int64_t i,
                      int64_t width) {
    const moe_tensor *b = &k->scene->evidence->problem->in.t[id];
    if (k->e < 0 || !b->data || k->change->terms & without)
        return 0;
    bool meant = k->change->biases & (id == MOE_T_B1 ? 1 : 2);
    int64_t from = meant ? (k->e + k->change->bias_shift) % k->change->desc.E : k->e;
    const bool ordered = id == MOE_T_B1 && k->change->b1_order;
    const int64_t at = ordered ? moe_int_b1_column(k->change, width / 2, i) : i;
    return (meant ? k->change->bias_factor : 1) *
           moe_load(b->data, b->dtype, (size_t)(from * width + at));
}

static int32_t layout_of(const moe_int_expert_run *k) {
    if (k->e < 0)
        return k->change->terms & MOE_INT_SHARED_INTERLEAVED ? MOE_GLU_INTERLEAVED : MOE_GLU_CONCAT;
    return k->change->desc.glu_layout;
}

/* Terms that take b1 from column i of H. */
static unsigned without_b1(const moe_int_expert_run *k, int64_t i) {
    const moe_int_stage_rows *f = k->rows;
    bool up = layout_of(k) == MOE_GLU_INTERLEAVED ? i % 2 == 1 : i >= f->n;
    return MOE_INT_NO_B1 | (up ? MOE_INT_NO_B1_UP : MOE_INT_NO_B1_GATE);
}

/* The pre-activations of unit j. */
static void unit_of(const moe_int_expert_run *k, const double *h, int64_t j, double ret[2]) {
    const moe_int_stage_rows *f = k->rows;
    const int up = k->e >= 0 && moe_int_change_swaps(k->change, j, f->n) ? 0 : 1;
    const moe_int_change *c = k->change;
    const int64_t gate = moe_h_column(layout_of(k), f->n, f->hw, j, 0);
    const int64_t beside = f->hw == f->n ? gate : moe_h_column(layout_of(k), f->n, f->hw, j, 1);
    ret[!up] = h[k->e < 0 ? gate : moe_int_around(gate + c->gate_late, f->hw)];
    ret[up] = f->hw == f->n ? 0 : h[k->e < 0 ? beside : moe_int_around(beside + c->up_late, f->hw)];
}

/* The column of A that a kernel with the fault of `period` writes into column j. */
static int64_t column_of(const moe_int_change *c, int64_t j) {
    if (c->period == 0)
        return j;
    if (c->from_start)
        return j % c->period;
    return j / c->period % 2 ? j - c->period : j;
}

static void forward(const moe_int_expert_run *k, double *room) {
    moe_int_stage_rows *f = k->rows;
    const moe_int_change *c = k->change;
    moe_int_matrix w1 = moe_int_matrix_w1(k->scene, c, k->e, MOE_INT_PRODUCT_H);
    moe_int_matrix w2 = moe_int_matrix_w2(k->scene, c, k->e, MOE_INT_PRODUCT_Y);
    const unsigned sums = c->sums;
    if (k->base && w1.right && !(sums & MOE_INT_SUM_H) && same(k, f->x, k->base->x, f->d))
        take(k, f->xW1, k->base->xW1, f->hw);
    else
        times_rows(k, &w1, MOE_INT_SUM_H, f->x, room, f->xW1);
    bool on_input = k->e >= 0 && c->terms & MOE_INT_ON_INPUT;
    for (int64_t p = k->first; p < k->first + k->count; p++) {
        for (int64_t i = 0; i < f->hw; i++)
            f->H[p * f->hw + i] = (on_input ? f->weight[p] : 1) * f->xW1[p * f->hw + i] +
                                  bias_of(k, MOE_T_B1, without_b1(k, i), i, f->hw);
        moe_int_change_store(c, f->H + p * f->hw, f->hw);
        for (int64_t j = 0; j < f->n; j++) {
            double h[2], slope[2];
            unit_of(k, f->H + p * f->hw, k->e < 0 ? j : column_of(c, j), h);
            moe_int_changed_act(c, h, &f->A[p * f->n + j], slope);
        }
        moe_int_change_store(c, f->A + p * f->n, f->n);
    }
    if (k->base && w2.right && !(sums & MOE_INT_SUM_Y) && same(k, f->A, k->base->A, f->n))
        take(k, f->AW2, k->base->AW2, f->d);
    else
        times_rows(k, &w2, MOE_INT_SUM_Y, f->A, room, f->AW2);
    for (int64_t p = k->first; p < k->first + k->count; p++) {
        for (int64_t i = 0; i < f->d; i++)
            f->Y[p * f->d + i] =
                f->AW2[p * f->d + i] + bias_of(k, MOE_T_B2, MOE_INT_NO_B2, i, f->d);
        moe_int_change_store(c, f->Y + p * f->d, f->d);
    }
}

/* Row p: dS and dH from dA'. */
static void backward_row(const moe_int_expert_run *k, int64_t p) {
    moe_int_stage_rows *f = k->rows;
    unsigned terms = k->change->terms;
    double w = k->e < 0 || terms & MOE_INT_ON_OUTPUT ? f->weight[p] : 1, sum = 0;
    double scale = w;
    if (k->e >= 0 && terms & MOE_INT_NO_DH_WEIGHT)
        scale = 1;
    if (k->e >= 0 && terms & MOE_INT_DH_WEIGHT_TWICE)
        scale = w * w;
    for (int64_t j = 0; j < f->n; j++) {
        double h[2], slope[2] = {0, 0}, a, da = f->dA[p * f->n + j];
        unit_of(k, f->H + p * f->hw, j, h);
        moe_int_changed_act(k->change, h, &a, slope);
        sum += da * (terms & MOE_INT_DS_SLOPE ? slope[0] : a);
        for (int up = 0; up < (f->hw == f->n ? 1 : 2); up++)
            f->dH[p * f->hw + moe_h_column(layout_of(k), f->n, f->hw, j, up)] =
                scale * da * slope[up];
    }
    moe_int_change_store(k->change, f->dH + p * f->hw, f->hw);
    for (int64_t i = 0; i < f->d; i++)
        sum +=
            f->dy[p * f->d + i] * bias_of(k, MOE_T_B2, MOE_INT_NO_B2 | MOE_INT_NO_DS_B2, i, f->d);
    f->dS[p] = k->e >= 0 && terms & MOE_INT_DS_WEIGHTED ? w * sum : sum;
}

static void backward(const moe_int_expert_run *k, double *room) {
    moe_int_stage_rows *f = k->rows;
    const moe_int_change *c = k->change;
    moe_int_matrix w2 = moe_int_matrix_w2(k->scene, c, k->e, MOE_INT_PRODUCT_DA);
    moe_int_matrix w1 = moe_int_matrix_w1(k->scene, c, k->e, MOE_INT_PRODUCT_DX);
    const unsigned sums = c->sums;
    if (k->base && w2.right && !(sums & MOE_INT_SUM_DA) && same(k, f->dy, k->base->dy, f->d))
        take(k, f->dA, k->base->dA, f->n);
    else
        times_columns(k, &w2, MOE_INT_SUM_DA, f->dy, room, f->dA);
    for (int64_t p = k->first; p < k->first + k->count; p++)
        backward_row(k, p);
    if (k->base && w1.right && !(sums & MOE_INT_SUM_DXP) && same(k, f->dH, k->base->dH, f->hw))
        take(k, f->dXp, k->base->dXp, f->d);
    else
        times_columns(k, &w1, MOE_INT_SUM_DXP, f->dH, room, f->dXp);
    moe_int_change_store(c, f->dXp + k->first * f->d, k->count * f->d);
    bool input_alone = c->terms & MOE_INT_ON_INPUT && !(c->terms & MOE_INT_ON_OUTPUT);
    for (int64_t p = k->first; k->e >= 0 && input_alone && p < k->first + k->count; p++)
        f->dS[p] = dot(f->dXp + p * f->d, f->x + p * f->d, f->d);
}

static moe_status with_room(const moe_int_expert_run *k,
                            void (*make)(const moe_int_expert_run *k, double *room)) {
    const moe_int_stage_rows *f = k->rows;
    if (k->count == 0)
        return MOE_OK;
    double *room = malloc((size_t)(k->count + 2) * (size_t)(f->d + f->n + f->hw) * sizeof *room);
    if (!room)
        return MOE_E_NOMEM;
    make(k, room);
    free(room);
    return MOE_OK;
}

moe_status moe_int_expert_forward(const moe_int_expert_run *k) {
    return with_room(k, forward);
}

moe_status moe_int_expert_backward(const moe_int_expert_run *k) {
    return with_room(k, backward);
}
