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
    if (ret->common_o && ret->common_dx && ret->weight)
        return MOE_OK;
    moe_int_rows_destroy(ret);
    return MOE_E_NOMEM;
}

void moe_int_rows_destroy(moe_int_rows *rows) {
    free(rows->common_o);
    free(rows->common_dx);
    free(rows->weight);
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

/* Crosses that kink which brings want nearest to got, while there is one. The row's kinks are
 * `vector` [n][d], what crossing each adds from the side where it is now; it and `rest`, which is
 * got - want, are over what each element errs, `scale` [d]. */
static void settle_row(int64_t n, int64_t d, const double *scale, double *vector, double *rest,
                       double *want) {
    for (;;) {
        int64_t best = -1;
        double most = 0;
        for (int64_t k = 0; k < n; k++) {
            const double *v = vector + k * d;
            double square = moe_int_norm2(v, d), gain = 2 * dot(rest, v, d) - square;
            if (gain > most && gain > 1e-6 * square) { /* no endless to and fro of roundings */
                most = gain;
                best = k;
            }
        }
        if (best < 0)
            return;
        for (int64_t i = 0; i < d; i++) {
            double *v = &vector[best * d + i];
            want[i] += *v * scale[i];
            rest[i] -= *v;
            *v = -*v;
        }
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

/* Row `kink->row` with its n kinks; `work` [n + 2][d]. A row with something that is no number stays
 * as it is. */
static void settle(const moe_int_kink *kink, int64_t n, const moe_tensor *got,
                   const moe_tensor *variance, double *work, double *want) {
    int64_t d = width_of(got);
    double *rest = work, *scale = work + d, *vector = work + 2 * d, sum = 0;
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
    if (isfinite(sum + moe_int_norm2(rest, d) + moe_int_norm2(want, d)))
        settle_row(n, d, scale, vector, rest, want);
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
    double *work = malloc((size_t)((most + 2) * d + 1) * sizeof *work);
    moe_status status = work ? moe_tensor_cast(want, MOE_F64, ret) : MOE_E_NOMEM;
    for (int64_t first = 0, n; !status && first < rows->kinks; first += n) {
        const moe_int_kink *kink = rows->kink + first;
        n = run_of(rows, first);
        if (kink->of == id)
            settle(kink, n, got, variance, work, (double *)ret->data + kink->row * d);
    }
    free(work);
    return status;
}
