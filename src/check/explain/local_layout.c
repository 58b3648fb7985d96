/* A product's matrices whose axes (expert, row, column) are taken in another order: the parameter
 * lies as it should, and is read as if it lay otherwise. */
#include "check/explain/bank.h"
#include "check/explain/product.h"
#include "core/elements.h"

#include <math.h>
#include <stdlib.h>

/* Which axis is the slowest, the next, the fastest: of expert 0, row 1, column 2. */
typedef struct axes {
    const char *words;
    int axis[3];
} axes;

static const axes orders[] = {
    {"[row][column][expert]", {1, 2, 0}}, {"[column][row][expert]", {2, 1, 0}},
    {"[row][expert][column]", {1, 0, 2}}, {"[column][expert][row]", {2, 0, 1}},
    {"[expert][column][row]", {0, 2, 1}},
};

/* The matrix of expert e as [outs][depth], read so. */
static void read_matrix(const moe_int_product_view *v, const axes *as, int64_t e, double *ret) {
    const int64_t rows = v->turned ? v->depth : v->outs, columns = v->turned ? v->outs : v->depth;
    const int64_t size[3] = {v->experts, rows, columns};
    for (int64_t o = 0; o < v->outs; o++)
        for (int64_t k = 0; k < v->depth; k++) {
            const int64_t at[3] = {e, v->turned ? k : o, v->turned ? o : k};
            int64_t flat = 0;
            for (int i = 0; i < 3; i++)
                flat = flat * size[as->axis[i]] + at[as->axis[i]];
            ret[o * v->depth + k] = moe_load(v->w->data, v->w->dtype, (size_t)flat);
        }
}

static double left_with(const moe_int_product_view *v, const axes *as, double *w) {
    double *x = w + v->outs * v->depth, left = 0;
    int64_t of = -1;
    for (int64_t i = 0; i < v->rows; i++) {
        if (moe_int_product_expert(v, i) != of)
            read_matrix(v, as, of = moe_int_product_expert(v, i), w);
        moe_int_product_source(v, i, v->own[i], x);
        const double one = moe_int_product_distance(v, i, w, x, v->outs);
        left += one;
        if (one > 4 * moe_int_local_limit(v->e, v->id, v->d2[i]))
            return INFINITY;
    }
    return left;
}

bool moe_int_local_matrix_axes(const moe_int_local *l, moe_int_finding *f) {
    moe_int_product_view v;
    const bool made = moe_int_product_view_make(l, false, &v) && v.experts > 1;
    double *w = made ? malloc((size_t)((v.outs + 1) * v.depth) * sizeof *w) : NULL, d2 = 0;
    bool found = false;
    for (int64_t i = 0; w && i < v.rows; i++)
        d2 += v.d2[i];
    for (size_t n = 0; w && !found && n < sizeof orders / sizeof *orders; n++) {
        const double left = left_with(&v, &orders[n], w);
        found = left <= moe_int_local_limit(v.e, v.id, d2);
        if (!found)
            continue;
        moe_int_local_residuals(l->p, left, d2, f);
        moe_int_finding_say(f, ": in %s all of %s is read as %s", v.equation, v.matrix,
                            orders[n].words);
    }
    free(w);
    moe_int_product_view_destroy(&v);
    return found;
}
