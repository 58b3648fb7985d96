/* Rows of a measured table as the model sees them. */
#include "sim/fit/table.h"

#include <string.h>

/* A pass that the case does not have takes no time in its prediction. */
static moe_status find_pass(const char *name, const moe_prediction *p, moe_row_error *ret) {
    for (int i = 0; i < MOE_PASS_SUMS; i++) {
        const moe_pass_cost *pass = &p->pass[i];
        if (strcmp(name, moe_pass_sum_name((moe_pass_sum)i)) == 0 && pass->us > 0) {
            ret->predicted_us = pass->us;
            ret->floor_us = pass->floor_us;
            ret->least_us = pass->least_us;
            if (i == MOE_PASS_TOTAL) {
                ret->low_us = p->low_us;
                ret->high_us = p->high_us;
            }
            return MOE_OK;
        }
    }
    return MOE_E_NOTFOUND;
}

static moe_status find_row(const moe_table *table, const moe_int_row *row, const moe_prediction *p,
                           moe_row_error *ret) {
    if (table->kind != MOE_TABLE_KERNELS)
        return find_pass(moe_pass_sum_name(MOE_PASS_TOTAL), p, ret);
    if (row->is_pass)
        return find_pass(row->kernel, p, ret);
    moe_kernel k;
    const moe_status status = moe_prediction_stage(p, row->kernel, &k);
    if (!status) {
        ret->predicted_us = k.cost.us;
        ret->floor_us = k.cost.floor_us;
        ret->least_us = k.least_us;
    }
    return status;
}

static moe_status predict_layer(const moe_table *table, const moe_int_row *row, const moe_gpu *gpu,
                                const moe_fit_params *params, const moe_log *log,
                                moe_prediction **ret) {
    const moe_workload state = {.clock = params->clock,
                                .entropy = params->entropy,
                                .in_stream = params->in_stream,
                                .storage = params->storage,
                                .converts = params->converts};
    if (table->kind == MOE_TABLE_GEMMS)
        return moe_predict_gemm(gpu, row->m, row->n, row->k, row->batch, &state, log, ret);
    const moe_table_layer *l = &table->layers[row->layer];
    const moe_workload w = moe_workload_of(&l->c, l->counts, &state);
    return moe_predict(gpu, params->method ? params->method : "cublas", &w, log, ret);
}

static const moe_row_kind row_kinds[] = {[MOE_TABLE_GEMMS] = MOE_ROW_GEMM,
                                         [MOE_TABLE_LAYERS] = MOE_ROW_LAYER,
                                         [MOE_TABLE_KERNELS] = MOE_ROW_KERNEL,
                                         [MOE_TABLE_TRANSFERS] = MOE_ROW_TRANSFER};

static moe_status predict_transfer(const moe_int_row *row, const moe_fit_params *params,
                                   const moe_log *log, const moe_row_error *e, moe_row_error *ret) {
    if (!params->node)
        return moe_fail(log, MOE_E_INVALID, "a table of transfers needs a node");
    *ret = *e;
    ret->predicted_us = moe_int_moved_us(params->node, &row->moved);
    return MOE_OK;
}

moe_status moe_table_predict(const moe_table *table, size_t i, const moe_gpu *gpu,
                             const moe_fit_params *params, const moe_log *log, moe_row_error *ret) {
    if (i >= table->count)
        return moe_fail(log, MOE_E_INVALID, "row %zu of %zu", i, table->count);
    const moe_int_row *r = &table->rows[i];
    moe_row_error e = {.what = r->gemm,
                       .kernel = r->kernel,
                       .kind = r->is_pass ? MOE_ROW_PASS : row_kinds[table->kind],
                       .measured_us = r->us};
    moe_prediction *p = NULL;
    if (table->kind == MOE_TABLE_TRANSFERS)
        return predict_transfer(r, params, log, &e, ret);
    moe_status status = predict_layer(table, r, gpu, params, log, &p);
    if (table->kind != MOE_TABLE_GEMMS)
        e.what = table->layers[r->layer].line;
    if (!status)
        status = find_row(table, r, p, &e);
    if (!status)
        *ret = e;
    moe_prediction_destroy(&p);
    return status;
}

static bool same_prediction(const moe_table *table, size_t a, size_t b) {
    return table->kind != MOE_TABLE_GEMMS && table->rows[a].layer == table->rows[b].layer;
}

/* The rows from rows[0] on that share its prediction, `count` at most. */
static moe_status time_neighbours(const moe_table *table, const size_t *rows, size_t count,
                                  const moe_gpu *gpu, const moe_fit_params *params,
                                  const moe_log *log, double *ret_us) {
    moe_prediction *p = NULL;
    moe_status worst = predict_layer(table, &table->rows[rows[0]], gpu, params, log, &p);
    for (size_t i = 0; i < count && (i == 0 || same_prediction(table, rows[0], rows[i])); i++) {
        moe_row_error e = {0};
        const moe_status status = p ? find_row(table, &table->rows[rows[i]], p, &e) : worst;
        ret_us[rows[i]] = e.predicted_us;
        worst = status ? status : worst;
    }
    moe_prediction_destroy(&p);
    return worst;
}

moe_status moe_int_table_times(const moe_table *table, const size_t *rows, size_t count,
                               const moe_gpu *gpu, const moe_fit_params *params, const moe_log *log,
                               double *ret_us) {
    moe_status worst = MOE_OK;
    if (table->kind == MOE_TABLE_TRANSFERS) {
        for (size_t i = 0; i < count; i++) {
            moe_row_error e;
            worst = moe_table_predict(table, rows[i], gpu, params, log, &e);
            ret_us[rows[i]] = worst ? 0 : e.predicted_us;
        }
        return worst;
    }
#pragma omp parallel for schedule(dynamic, 16)
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && same_prediction(table, rows[i - 1], rows[i]))
            continue;
        const moe_status status =
            time_neighbours(table, rows + i, count - i, gpu, params, log, ret_us);
        if (status) {
#pragma omp critical
            worst = status;
        }
    }
    return worst;
}
