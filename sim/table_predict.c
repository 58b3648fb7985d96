/* Rows of a measured table as the model sees them. */
#include <stdio.h>
#include <string.h>

#include "table.h"

static moe_status time_of(const moe_table *table, const moe_row *row, const moe_prediction *p,
                          double *ret) {
    if (table->kind != MOE_TABLE_KERNELS) {
        *ret = p->total_us;
        return MOE_OK;
    }
    for (size_t i = 0; i < p->n_kernels; i++) {
        if (strcmp(p->kernels[i].cost.name, row->kernel) == 0) {
            *ret = p->kernels[i].cost.us;
            return MOE_OK;
        }
    }
    return MOE_E_NOTFOUND;
}

moe_status moe_int_table_time(const moe_table *table, size_t i, const moe_gpu *gpu,
                              const moe_fit_params *params, const moe_log *log, double *ret) {
    const moe_row *row = &table->rows[i];
    moe_prediction *p = NULL;
    moe_status st;
    moe_workload w = {
        .clock = params->clock, .entropy = params->entropy, .in_stream = params->in_stream};
    if (table->kind == MOE_TABLE_GEMMS) {
        st = moe_predict_gemm(gpu, row->m, row->n, row->k, row->batch, &w, log, &p);
    } else {
        const moe_table_layer *l = &table->layers[row->layer];
        w = moe_workload_of(&l->c, l->counts, &w);
        st = moe_predict(gpu, params->method ? params->method : "cublas", &w, log, &p);
    }
    if (!st)
        st = time_of(table, row, p, ret);
    moe_prediction_free(&p);
    return st;
}

moe_status moe_table_predict(const moe_table *table, size_t i, const moe_gpu *gpu,
                             const moe_fit_params *params, const moe_log *log, moe_row_error *ret) {
    double us;
    if (i >= table->count)
        return moe_fail(log, MOE_E_INVALID, "row %zu of %zu", i, table->count);
    const moe_row *r = &table->rows[i];
    moe_status st = moe_int_table_time(table, i, gpu, params, log, &us);
    if (st)
        return st;
    *ret = (moe_row_error){.measured_us = r->us, .predicted_us = us};
    if (table->kind == MOE_TABLE_GEMMS)
        snprintf(ret->what, sizeof ret->what, "gemm m=%lld n=%lld k=%lld batch=%lld",
                 (long long)r->m, (long long)r->n, (long long)r->k, (long long)r->batch);
    else
        snprintf(ret->what, sizeof ret->what, "%s", table->layers[r->layer].line);
    memcpy(ret->kernel, r->kernel, sizeof ret->kernel);
    return MOE_OK;
}
