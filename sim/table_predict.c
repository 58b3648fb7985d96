/* Rows of a measured table as the model sees them. */
#include <string.h>

#include "table.h"

/* A pass that the case does not have takes no time in its prediction. */
static moe_status find_pass(const char *name, const moe_prediction *p, moe_row_error *ret) {
    static const char *const names[] = {"forward", "backward", "total"};
    const double us[] = {p->forward_us, p->backward_us, p->total_us};
    const double floors[] = {p->forward_floor_us, p->backward_floor_us, p->floor_us};
    for (int i = 0; i < 3; i++) {
        if (strcmp(name, names[i]) == 0 && us[i] > 0) {
            ret->predicted_us = us[i];
            ret->floor_us = floors[i];
            return MOE_OK;
        }
    }
    return MOE_E_NOTFOUND;
}

static moe_status find_row(const moe_table *table, const moe_row *row, const moe_prediction *p,
                           moe_row_error *ret) {
    if (table->kind != MOE_TABLE_KERNELS)
        return find_pass("total", p, ret);
    if (row->is_pass)
        return find_pass(row->kernel, p, ret);
    for (size_t i = 0; i < p->n_kernels; i++) {
        if (strcmp(p->kernels[i].cost.name, row->kernel) == 0) {
            ret->predicted_us = p->kernels[i].cost.us;
            ret->floor_us = p->kernels[i].cost.floor_us;
            return MOE_OK;
        }
    }
    return MOE_E_NOTFOUND;
}

static moe_status predict_layer(const moe_table *table, const moe_row *row, const moe_gpu *gpu,
                                const moe_fit_params *params, const moe_log *log,
                                moe_prediction **ret) {
    const moe_workload state = {
        .clock = params->clock, .entropy = params->entropy, .in_stream = params->in_stream};
    if (table->kind == MOE_TABLE_GEMMS)
        return moe_predict_gemm(gpu, row->m, row->n, row->k, row->batch, &state, log, ret);
    const moe_table_layer *l = &table->layers[row->layer];
    const moe_workload w = moe_workload_of(&l->c, l->counts, &state);
    return moe_predict(gpu, params->method ? params->method : "cublas", &w, log, ret);
}

moe_status moe_table_predict(const moe_table *table, size_t i, const moe_gpu *gpu,
                             const moe_fit_params *params, const moe_log *log, moe_row_error *ret) {
    if (i >= table->count)
        return moe_fail(log, MOE_E_INVALID, "row %zu of %zu", i, table->count);
    const moe_row *r = &table->rows[i];
    moe_row_error e = {
        .what = r->gemm, .kernel = r->kernel, .is_pass = r->is_pass, .measured_us = r->us};
    moe_prediction *p = NULL;
    moe_status st = predict_layer(table, r, gpu, params, log, &p);
    if (table->kind != MOE_TABLE_GEMMS)
        e.what = table->layers[r->layer].line;
    if (!st)
        st = find_row(table, r, p, &e);
    if (!st)
        *ret = e;
    moe_prediction_free(&p);
    return st;
}

moe_status moe_int_table_time(const moe_table *table, size_t i, const moe_gpu *gpu,
                              const moe_fit_params *params, const moe_log *log, double *ret) {
    moe_row_error e;
    moe_status st = moe_table_predict(table, i, gpu, params, log, &e);
    if (!st)
        *ret = e.predicted_us;
    return st;
}
