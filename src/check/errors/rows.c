/* The sides of rows of dX and dW1. At a kink an activation's slope jumps. Where rounding may carry
 * a pre-activation across it, two rows are correct, some 10 % apart: one for each side. Their
 * difference is known: the jump times W1's row (for dW1: times x). A result is compared with the
 * nearest of the correct rows. That hides no error: a wrong row is as far from each of them. */
#include "check/errors/errors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Kinks that a row may have for each of its elements: the choice must remain one of few. */
#define KINKS_MAX 0.25

moe_status moe_int_rows_alloc(int64_t tokens, int64_t pairs, moe_int_rows *ret) {
    memset(ret, 0, sizeof *ret);
    ret->common_o = calloc((size_t)tokens + 1, sizeof *ret->common_o);
    ret->common_dx = calloc((size_t)tokens + 1, sizeof *ret->common_dx);
    ret->weight = calloc((size_t)pairs + 1, sizeof *ret->weight);
    ret->on_input = calloc((size_t)pairs + 1, sizeof *ret->on_input);
    if (ret->common_o && ret->common_dx && ret->weight && ret->on_input)
        return MOE_OK;
    moe_int_rows_destroy(ret);
    return MOE_E_NOMEM;
}

void moe_int_rows_destroy(moe_int_rows *rows) {
    free(rows->common_o);
    free(rows->common_dx);
    free(rows->weight);
    free(rows->on_input);
    free(rows->kink);
    memset(rows, 0, sizeof *rows);
}

moe_status moe_int_rows_add(moe_int_rows *rows, const moe_int_kink *kink) {
    if (rows->kinks == rows->room) {
        int64_t room = 2 * rows->room + 64;
        moe_int_kink *grown = realloc(rows->kink, (size_t)room * sizeof *grown);
        if (!grown)
            return MOE_E_NOMEM;
        rows->kink = grown;
        rows->room = room;
    }
    rows->kink[rows->kinks++] = *kink;
    return MOE_OK;
}

static int by_row(const void *a, const void *b) {
    const moe_int_kink *x = a, *y = b;
    if (x->of != y->of)
        return x->of < y->of ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* Kinks from `first` on that are the same row's. */
static int64_t run_of(const moe_int_rows *rows, int64_t first) {
    int64_t end = first;
    while (end < rows->kinks && by_row(&rows->kink[end], &rows->kink[first]) == 0)
        end++;
    return end - first;
}

static int64_t width_of(const moe_tensor *t) {
    return t->shape[t->ndim - 1];
}

void moe_int_rows_sort(moe_int_rows *rows, moe_tensors *out) {
    int64_t kept = 0;
    if (rows->kinks > 0)
        qsort(rows->kink, (size_t)rows->kinks, sizeof *rows->kink, by_row);
    for (int64_t first = 0, n; first < rows->kinks; first += n) {
        moe_tensor *t = &out->t[rows->kink[first].of];
        int64_t d = width_of(t);
        n = run_of(rows, first);
        bool usable = (double)n <= KINKS_MAX * (double)d;
        for (int64_t i = first; i < first + n; i++)
            usable = usable && isfinite(rows->kink[i].step);
        if (!usable) {
            moe_int_blank(t, rows->kink[first].row * d, d);
            continue;
        }
        memmove(rows->kink + kept, rows->kink + first, (size_t)n * sizeof *rows->kink);
        kept += n;
    }
    rows->kinks = kept;
}

static double dot(const double *a, const double *b, int64_t d) {
    double sum = 0;
    for (int64_t i = 0; i < d; i++)
        sum += a[i] * b[i];
    return sum;
}

/* A row while its sides are chosen. `vector` [n][d] is what crossing each kink adds from the side
 * where it is now; it and `rest` [d], which is got - want, are over what each element errs,
 * `scale` [d]. */
typedef struct sides {
    int64_t n, d;
    const int64_t *group; /* [n] the first kink of the same unit: experts may share their W1 */
    double *scale, *vector, *rest, *want;
    double *sum; /* [d] */
} sides;

/* Kinks of one unit: its pre-activation is the same in all pairs of the token, so they are crossed
 * together, and none of them alone need bring want nearer. Alone: kink k itself. */
static bool moves(const sides *s, int64_t k, int64_t first, bool together) {
    return together ? s->group[k] == first : k == first;
}

/* By how much a move brings want nearer, in squares. */
static double gain_of(const sides *s, int64_t first, bool together) {
    memset(s->sum, 0, (size_t)s->d * sizeof *s->sum);
    for (int64_t k = first; k < (together ? s->n : first + 1); k++)
        for (int64_t i = 0; moves(s, k, first, together) && i < s->d; i++)
            s->sum[i] += s->vector[k * s->d + i];
    const double square = moe_int_norm2(s->sum, s->d);
    const double gain = 2 * dot(s->rest, s->sum, s->d) - square;
    return gain > 1e-6 * square ? gain : 0; /* no endless to and fro of roundings */
}

static void cross(const sides *s, int64_t first, bool together) {
    for (int64_t k = first; k < (together ? s->n : first + 1); k++)
        for (int64_t i = 0; moves(s, k, first, together) && i < s->d; i++) {
            double *v = &s->vector[k * s->d + i];
            s->want[i] += *v * s->scale[i];
            s->rest[i] -= *v;
            *v = -*v;
        }
}

/* Is it the first of several? */
static bool leads(const sides *s, int64_t first) {
    for (int64_t k = first + 1; s->group[first] == first && k < s->n; k++)
        if (s->group[k] == first)
            return true;
    return false;
}

/* Makes that move which brings want nearest to got, while there is one. */
static void settle_row(const sides *s) {
    for (;;) {
        int64_t best = -1;
        bool together = false;
        double most = 0;
        for (int64_t k = 0; k < s->n; k++)
            for (int all = 0; all < (leads(s, k) ? 2 : 1); all++) {
                const double gain = gain_of(s, k, all);
                if (gain > most) {
                    most = gain;
                    best = k;
                    together = all;
                }
            }
        if (best < 0)
            return;
        cross(s, best, together);
    }
}

/* Rows of W1 that are the same are one unit's. */
static void find_groups(const moe_int_kink *kink, int64_t n, int64_t d, int64_t *ret) {
    for (int64_t k = 0; k < n; k++) {
        const size_t bytes = (size_t)d * moe_dtype_size(kink[k].from->dtype);
        const char *row = (const char *)kink[k].from->data + (size_t)kink[k].column * bytes;
        ret[k] = k;
        for (int64_t i = 0; i < k && ret[k] == k; i++)
            if (ret[i] == i && kink[i].from == kink[k].from &&
                memcmp(row, (const char *)kink[i].from->data + (size_t)kink[i].column * bytes,
                       bytes) == 0)
                ret[k] = i;
    }
}

/* What each element of a row errs; 1 where that is nothing or not known. */
static void scale_of(const moe_int_kink *kink, const double *want, const moe_tensor *variance,
                     int64_t d, double *ret) {
    if (variance)
        moe_int_load(variance, kink->row * d, d, ret);
    for (int64_t i = 0; i < d; i++) {
        double size = variance ? sqrt(ret[i] + want[i] * want[i]) : 1;
        ret[i] = isfinite(size) && size > 0 ? size : 1;
    }
}

/* Row `kink->row` with its n kinks; `work` [n + 3][d], `group` [n]. A row with something that is no
 * number stays as it is. */
static void settle(const moe_int_kink *kink, int64_t n, const moe_tensor *got,
                   const moe_tensor *variance, double *work, int64_t *group, double *want) {
    int64_t d = width_of(got);
    double *rest = work, *scale = work + d, *vector = work + 3 * d, sum = 0;
    const sides s = {n, d, group, scale, vector, rest, want, work + 2 * d};
    moe_int_load(got, kink->row * d, d, rest);
    scale_of(kink, want, variance, d, scale);
    for (int64_t i = 0; i < d; i++)
        rest[i] = (rest[i] - want[i]) / scale[i];
    for (int64_t k = 0; k < n; k++) {
        moe_int_load(kink[k].from, kink[k].column * d, d, vector + k * d);
        for (int64_t i = 0; i < d; i++)
            vector[k * d + i] *= kink[k].step / scale[i];
        sum += moe_int_norm2(vector + k * d, d);
    }
    if (isfinite(sum + moe_int_norm2(rest, d) + moe_int_norm2(want, d))) {
        find_groups(kink, n, d, group);
        settle_row(&s);
    }
}

bool moe_int_rows_have_kinks(const moe_int_rows *rows, moe_tensor_id id) {
    for (int64_t i = 0; i < rows->kinks; i++)
        if (rows->kink[i].of == id)
            return true;
    return false;
}

moe_status moe_int_rows_settle(const moe_int_rows *rows, moe_tensor_id id, const moe_tensor *got,
                               const moe_tensor *want, const moe_tensor *variance,
                               moe_tensor *ret) {
    int64_t d = width_of(got), most = 0;
    for (int64_t first = 0, n; first < rows->kinks; first += n) {
        n = run_of(rows, first);
        most = n > most ? n : most;
    }
    double *work = malloc((size_t)((most + 3) * d + 1) * sizeof *work);
    int64_t *group = malloc((size_t)(most + 1) * sizeof *group);
    moe_status status = work && group ? moe_tensor_cast(want, MOE_F64, ret) : MOE_E_NOMEM;
    for (int64_t first = 0, n; !status && first < rows->kinks; first += n) {
        const moe_int_kink *kink = rows->kink + first;
        n = run_of(rows, first);
        if (kink->of == id)
            settle(kink, n, got, variance, work, group, (double *)ret->data + kink->row * d);
    }
    free(work);
    free(group);
    return status;
}
