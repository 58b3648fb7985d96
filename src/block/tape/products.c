/* Products among the operations of a tape. A gradient is made apart and then added. */
#include "block/tape/step.h"
#include "reference/loops.h"

#include <stdlib.h>

enum { THREADS = 1 };

static moe_status add_product(void (*product)(const double *, int64_t, int64_t, const double *,
                                              int64_t, int, double *),
                              const double *g, int64_t rows, int64_t outs, const double *x,
                              int64_t in, int64_t count, double *to) {
    double *made = malloc((size_t)(count + 1) * sizeof *made);
    if (!made)
        return MOE_E_NOMEM;
    product(g, rows, outs, x, in, THREADS, made);
    for (int64_t i = 0; i < count; i++)
        to[i] += made[i];
    free(made);
    return MOE_OK;
}

moe_status moe_int_linear_forward(const moe_int_step_args *k, double *y) {
    moe_int_loop_linear_f64(k->a->x, k->a->rows, k->a->columns, k->b->x, k->b->rows, NULL, THREADS,
                            y);
    return MOE_OK;
}

moe_status moe_int_linear_backward(const moe_int_step_args *k) {
    const moe_int_step *s = k->s;
    moe_status status = add_product(moe_int_loop_times_f64, s->g, s->rows, s->columns, k->b->x,
                                    k->b->columns, moe_int_step_count(k->a), k->da);
    return status ? status
                  : add_product(moe_int_loop_outer_f64, s->g, s->rows, s->columns, k->a->x,
                                k->a->columns, moe_int_step_count(k->b), k->db);
}

/* Block i of a is [p][q], of b [q][r], of y [p][r]. */
moe_status moe_int_mix_forward(const moe_int_step_args *k, double *y) {
    const int64_t n = k->s->count, p = k->a->rows / n, q = k->a->columns, r = k->b->columns;
    for (int64_t i = 0; i < n; i++)
        moe_int_loop_times_f64(k->a->x + i * p * q, p, q, k->b->x + i * q * r, r, THREADS,
                               y + i * p * r);
    return MOE_OK;
}

moe_status moe_int_mix_backward(const moe_int_step_args *k) {
    const int64_t n = k->s->count, p = k->a->rows / n, q = k->a->columns, r = k->b->columns;
    for (int64_t i = 0; i < n * p; i++) {
        const double *g = k->s->g + i * r;
        for (int64_t j = 0; j < q; j++) {
            const double *b = k->b->x + (i / p * q + j) * r, a = k->a->x[i * q + j];
            double *db = k->db + (i / p * q + j) * r;
            for (int64_t c = 0; c < r; c++) {
                k->da[i * q + j] += g[c] * b[c];
                db[c] += g[c] * a;
            }
        }
    }
    return MOE_OK;
}
