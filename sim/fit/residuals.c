#include "sim/fit/residuals.h"
#include "core/samples.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool in_class(const moe_int_row *row, int class) {
    return class == MOE_FIT_LARGE ? row->m >= 1024 : row->us >= (class == MOE_FIT_ALL ? 4 : 20);
}

/* Rows of a class and, where it is not NULL, of a kernel. `size` has room for all rows. */
static moe_fit_error summarise(const moe_int_residuals *r, int class, const char *kernel,
                               double *size) {
    moe_fit_error sum = {0};
    for (size_t i = 0; i < r->table->count; i++) {
        const moe_int_row *row = &r->table->rows[i];
        if (r->fold[i] < 0 || r->fold[i] == r->but || !in_class(row, class) ||
            (kernel && strcmp(kernel, row->kernel) != 0))
            continue;
        size[sum.rows++] = 100 * fabs(r->residual[i]);
        sum.mean += 100 * fabs(r->residual[i]);
        sum.bias += 100 * r->residual[i];
    }
    if (sum.rows > 0) {
        moe_int_sort(size, (size_t)sum.rows);
        sum.mean /= (double)sum.rows;
        sum.bias /= (double)sum.rows;
        sum.median = size[sum.rows / 2];
        sum.p90 = size[sum.rows * 9 / 10];
    }
    return sum;
}

moe_status moe_int_residuals_by_class(const moe_int_residuals *r,
                                      moe_fit_error ret[MOE_FIT_CLASSES]) {
    double *size = malloc(r->table->count * sizeof *size);
    if (!size)
        return MOE_E_NOMEM;
    for (int c = 0; c < MOE_FIT_CLASSES; c++)
        ret[c] = summarise(r, c, NULL, size);
    free(size);
    return MOE_OK;
}

static bool is_listed(const moe_fit_result *r, const char *name) {
    for (size_t i = 0; i < r->n_kernels; i++) {
        if (strcmp(r->kernels[i].name, name) == 0)
            return true;
    }
    return false;
}

moe_status moe_int_residuals_by_kernel(const moe_int_residuals *r, moe_fit_result *ret) {
    double *size = malloc(r->table->count * sizeof *size);
    if (!size)
        return MOE_E_NOMEM;
    ret->n_kernels = 0;
    for (size_t i = 0; i < r->table->count && ret->n_kernels < MOE_FIT_KERNELS_MAX; i++) {
        const char *name = r->table->rows[i].kernel;
        if (r->fold[i] < 0 || is_listed(ret, name))
            continue;
        moe_fit_kernel *k = &ret->kernels[ret->n_kernels++];
        strcpy(k->name, name);
        k->error = summarise(r, MOE_FIT_ALL, name, size);
    }
    free(size);
    return MOE_OK;
}
