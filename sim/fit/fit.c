/* Fitting a GPU description to a measured table, judged on shapes that were left out. */
#include "sim/fit/fit.h"
#include "sim/fit/residuals.h"
#include "sim/gpus/params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOT_ASKED = -1, NO_KERNEL = -2 }; /* why a row does not take part */

typedef struct fit {
    moe_gpu *gpu;
    const moe_table *table;
    const moe_fit_params *p;
    double *slot[MOE_INT_FREE_MAX]; /* in gpu */
    unsigned char *set[MOE_INT_FREE_MAX];
    const moe_gpu_param *info[MOE_INT_FREE_MAX];
    size_t n_free;
    int32_t *fold; /* [rows]; below 0: the row does not take part */
    int32_t folds;
    size_t *chosen; /* rows that are predicted together, ascending */
    size_t n_chosen;
    double *us;       /* [rows] the last prediction of each */
    double *residual; /* [rows] its relative error, where rows are judged */
} fit;

/* A value outside its range costs more than any error could gain. */
static bool set_point(fit *f, const double *x) {
    bool inside = true;
    for (size_t i = 0; i < f->n_free; i++) {
        const double value = exp(x[i]);
        inside &= value >= f->info[i]->least && value <= f->info[i]->greatest;
        *f->slot[i] = value;
    }
    return inside;
}

static moe_status predict_chosen(fit *f) {
    return moe_int_table_times(f->table, f->chosen, f->n_chosen, f->gpu, f->p, NULL, f->us);
}

/* The sum is taken in the table's order, so that a fit does not depend on the number of threads. */
static double objective(void *user, const double *x) {
    fit *f = user;
    double sum = 0;
    if (!set_point(f, x))
        return 1e3;
    predict_chosen(f);
    for (size_t i = 0; i < f->n_chosen; i++) {
        const double us = f->us[f->chosen[i]];
        sum += us > 0 ? fabs(log(us / f->table->rows[f->chosen[i]].us)) : 1e3;
    }
    return sum / (double)f->n_chosen;
}

/* Predicts the first row that has no prediction again, aloud. */
static moe_status say_why(const fit *f, moe_status status, const moe_log *log) {
    moe_row_error e;
    for (size_t i = 0; i < f->n_chosen; i++) {
        if (f->us[f->chosen[i]] > 0)
            continue;
        moe_table_predict(f->table, f->chosen[i], f->gpu, f->p, log, &e);
        return moe_fail(log, status, "row %zu of the table cannot be predicted by method %s",
                        f->chosen[i] + 1, f->p->method);
    }
    return status;
}

/* Residuals of the rows of one fold (fold < 0: all that take part). */
static moe_status judge(fit *f, int32_t fold, const moe_log *log) {
    f->n_chosen = 0;
    for (size_t i = 0; i < f->table->count; i++) {
        if (f->fold[i] >= 0 && (fold < 0 || f->fold[i] == fold))
            f->chosen[f->n_chosen++] = i;
    }
    moe_status status = predict_chosen(f);
    for (size_t i = 0; i < f->n_chosen; i++)
        f->residual[f->chosen[i]] = f->us[f->chosen[i]] / f->table->rows[f->chosen[i]].us - 1;
    return status ? say_why(f, status, log) : MOE_OK;
}

static moe_int_residuals residuals_of(const fit *f, int32_t but) {
    return (moe_int_residuals){f->table, f->fold, f->residual, but};
}

/* Shapes in the order of a hash of their sizes, dealt to folds in turn. */
static int32_t deal_folds(fit *f, uint64_t *order) {
    size_t shapes = 0;
    for (size_t i = 0; i < f->table->count; i++) {
        if (f->fold[i] < 0)
            continue;
        const uint64_t key = moe_rng_bits(f->p->seed, f->table->rows[i].shape, 0);
        size_t at = 0;
        while (at < shapes && order[at] < key)
            at++;
        if (at < shapes && order[at] == key)
            continue;
        memmove(&order[at + 1], &order[at], (shapes - at) * sizeof *order);
        order[at] = key;
        shapes++;
    }
    const int32_t wanted = f->p->folds > 0 ? f->p->folds : 5;
    f->folds = (size_t)wanted < shapes ? wanted : (int32_t)shapes;
    for (size_t i = 0; i < f->table->count; i++) {
        if (f->fold[i] < 0)
            continue;
        const uint64_t key = moe_rng_bits(f->p->seed, f->table->rows[i].shape, 0);
        size_t at = 0;
        /* Each key is in order[]. NOLINTNEXTLINE(clang-analyzer-core.*) */
        while (order[at] != key)
            at++;
        f->fold[i] = (int32_t)(at % (size_t)f->folds);
    }
    return (int32_t)shapes;
}

/* Rows outside the fold, thinned evenly to the sample's size. */
static void draw_sample(fit *f, int32_t but) {
    const size_t most = f->p->sample > 0 ? (size_t)f->p->sample : 800;
    size_t all = 0, taken = 0, seen = 0;
    for (size_t i = 0; i < f->table->count; i++)
        all += f->fold[i] >= 0 && f->fold[i] != but && f->table->rows[i].us >= f->p->min_us;
    const size_t want = all < most ? all : most;
    for (size_t i = 0; i < f->table->count; i++) {
        if (f->fold[i] < 0 || f->fold[i] == but || f->table->rows[i].us < f->p->min_us)
            continue;
        seen++;
        if (seen * want / all > taken)
            f->chosen[taken++] = i;
    }
    f->n_chosen = taken;
}

static moe_status fit_without(fit *f, int32_t fold, const double *start, const moe_log *log) {
    double x[MOE_INT_FREE_MAX];
    const int evaluations = f->p->evaluations > 0 ? f->p->evaluations : 400;
    memcpy(x, start, sizeof x);
    draw_sample(f, fold);
    if (f->n_chosen == 0)
        return moe_fail(log, MOE_E_NOTFOUND,
                        "no row of %g us and more is left to fit once a fold's shapes are out",
                        f->p->min_us);
    moe_int_minimise(objective, f, f->n_free, 0.15, evaluations, x);
    set_point(f, x);
    return MOE_OK;
}

/* Whether its rows are of several names, with errors of their own. */
static bool by_name(const fit *f) {
    return f->table->kind == MOE_TABLE_KERNELS || f->table->kind == MOE_TABLE_TRANSFERS;
}

/* The interval of what the table is of, from the residuals as they stand. */
static moe_status find_spread(fit *f) {
    const moe_int_system s = f->table->kind == MOE_TABLE_GEMMS
                                 ? MOE_INT_SYS_CUBLAS
                                 : moe_int_system_find(f->p->method, strlen(f->p->method));
    const moe_int_residuals all = residuals_of(f, -1);
    if (by_name(f) || s == MOE_INT_SYS_COUNT || f->p->storage > MOE_STORAGE_F16)
        return MOE_OK;
    return moe_int_residuals_spread(&all, f->gpu->spread[s], f->gpu->set_spread[s]);
}

static void keep_held_out(const fit *f) {
    for (size_t i = 0; f->p->ret_held_out && i < f->table->count; i++)
        f->p->ret_held_out[i] = f->fold[i] < 0 ? 0 : f->table->rows[i].us * (1 + f->residual[i]);
}

static moe_status fit_folds(fit *f, const moe_log *messages, moe_fit_result *ret) {
    double start[MOE_INT_FREE_MAX];
    moe_status status = MOE_OK;
    for (size_t i = 0; i < f->n_free; i++)
        start[i] = log(fmax(*f->slot[i], 1e-3)); /* the search is over logarithms */
    for (int32_t fold = 0; !status && fold < f->folds; fold++) {
        status = fit_without(f, fold, start, messages);
        if (!status)
            status = judge(f, fold, messages);
    }
    const moe_int_residuals held_out = residuals_of(f, -1), fitted = residuals_of(f, f->folds - 1);
    if (!status)
        status = moe_int_residuals_by_class(&held_out, ret->held_out);
    if (!status)
        status = find_spread(f);
    keep_held_out(f);
    if (!status && by_name(f))
        status = moe_int_residuals_by_kernel(&held_out, ret);
    if (!status)
        status = judge(f, -1, messages);
    if (!status)
        status = moe_int_residuals_by_class(&fitted, ret->fitted);
    for (size_t i = 0; i < f->n_free; i++)
        *f->set[i] = 1;
    if (f->table->kind == MOE_TABLE_GEMMS)
        f->gpu->set_held[f->p->storage] = true;
    return status;
}

static moe_status find_free(fit *f, const moe_log *log) {
    const char *at = f->p->free_keys ? f->p->free_keys : "";
    char key[64];
    while (*at) {
        const size_t length = strcspn(at, ",");
        if (length >= sizeof key || f->n_free == MOE_INT_FREE_MAX)
            return moe_fail(log, MOE_E_INVALID, "too many or too long free keys: %s",
                            f->p->free_keys);
        memcpy(key, at, length);
        key[length] = '\0';
        at += length + (at[length] == ',');
        f->slot[f->n_free] =
            f->table->kind == MOE_TABLE_TRANSFERS
                ? moe_int_node_slot(f->p->node, key, &f->info[f->n_free], &f->set[f->n_free])
                : moe_int_gpu_slot(f->gpu, key, &f->info[f->n_free], &f->set[f->n_free]);
        if (!f->slot[f->n_free])
            return moe_fail(log, MOE_E_NOTFOUND, "no description has a \"%s\"%s", key,
                            f->table->kind == MOE_TABLE_TRANSFERS
                                ? ""
                                : "; moeref predict --sensitivities names what can be fitted");
        if (!f->info[f->n_free]->fitted)
            return moe_fail(log, MOE_E_INVALID, "%s is a fact about the GPU, not to be fitted",
                            key);
        for (size_t i = 0; i < f->n_free; i++) {
            if (f->slot[i] == f->slot[f->n_free])
                return moe_fail(log, MOE_E_INVALID, "free keys name %s twice", key);
        }
        f->n_free++;
    }
    return MOE_OK;
}

/* Kernels that the method does not have: said once for each name. */
static void leave_out(fit *f, size_t i, const moe_log *log) {
    for (size_t j = 0; j < i; j++) {
        if (f->fold[j] == NO_KERNEL &&
            strcmp(f->table->rows[j].kernel, f->table->rows[i].kernel) == 0)
            log = NULL;
    }
    moe_log_send(log, MOE_LOG_WARN, "method %s has no kernel \"%s\": its rows are left out",
                 f->p->method, f->table->rows[i].kernel);
    f->fold[i] = NO_KERNEL;
}

static moe_status take_rows(fit *f, const moe_log *log) {
    size_t rows = 0;
    for (size_t i = 0; i < f->table->count; i++) {
        f->fold[i] = 0;
        if (f->table->rows[i].is_pass ||
            (f->p->kernel && strcmp(f->p->kernel, f->table->rows[i].kernel) != 0)) {
            f->fold[i] = NOT_ASKED;
            continue;
        }
        moe_status status = f->table->kind == MOE_TABLE_KERNELS
                                ? moe_int_table_times(f->table, &i, 1, f->gpu, f->p, log, f->us)
                                : MOE_OK;
        if (status == MOE_E_NOTFOUND && moe_method_brief(f->p->method))
            leave_out(f, i, log);
        else if (status)
            return status;
        rows += f->fold[i] == 0;
    }
    return rows ? MOE_OK
                : moe_fail(log, MOE_E_NOTFOUND, "the table has no row of kernel \"%s\"",
                           f->p->kernel ? f->p->kernel : "any");
}

static moe_status run(fit *f, uint64_t *order, const moe_log *log, moe_fit_result *ret) {
    moe_fit_result result = {0};
    moe_status status = find_free(f, log);
    if (!status)
        status = take_rows(f, log);
    if (status)
        return status;
    const int32_t shapes = deal_folds(f, order);
    const moe_int_residuals all = residuals_of(f, -1);
    status = judge(f, -1, log);
    if (!status)
        status = moe_int_residuals_by_class(&all, result.as_given);
    if (!status && f->n_free == 0)
        status = find_spread(f);
    if (!status && by_name(f))
        status = moe_int_residuals_by_kernel(&all, &result);
    if (!status && f->n_free > 0)
        status = shapes > 1
                     ? fit_folds(f, log, &result)
                     : moe_fail(log, MOE_E_INVALID,
                                "one shape alone cannot be fitted and judged: none is left out");
    if (!status)
        *ret = result;
    return status;
}

moe_status moe_gpu_fit(moe_gpu *gpu, const moe_table *table, const moe_fit_params *params,
                       const moe_log *log, moe_fit_result *ret) {
    moe_fit_params p = *params;
    if (!p.method)
        p.method = "cublas";
    fit f = {.gpu = gpu,
             .table = table,
             .p = &p,
             .fold = calloc(table->count, sizeof *f.fold),
             .chosen = malloc(table->count * sizeof *f.chosen),
             .us = calloc(table->count, sizeof *f.us),
             .residual = calloc(table->count, sizeof *f.residual)};
    uint64_t *order = malloc((table->count + 1) * sizeof *order);
    moe_status status = MOE_E_NOMEM;
    if (f.fold && f.chosen && f.us && f.residual && order)
        status = run(&f, order, log, ret);
    else
        moe_fail(log, status, "calibration: out of memory");
    free(f.fold);
    free(f.chosen);
    free(f.us);
    free(f.residual);
    free(order);
    return status;
}
