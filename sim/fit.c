/* Fitting a GPU description to a measured table, judged on shapes that were left out. */
#include "fit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "params.h"
#include "table.h"

typedef struct fit {
    moe_gpu *gpu;
    const moe_table *table;
    const moe_fit_params *p;
    const char *method;
    double *slot[MOE_INT_FREE_MAX]; /* in gpu */
    unsigned char *set[MOE_INT_FREE_MAX];
    const moe_gpu_param *info[MOE_INT_FREE_MAX];
    size_t n_free;
    int32_t *fold; /* [rows]; -1: the row does not take part */
    int32_t folds;
    size_t *sample; /* rows of one evaluation */
    size_t n_sample;
    double *error; /* [rows] relative error of the last prediction of each */
} fit;

static moe_workload state_of(const moe_fit_params *p) {
    return (moe_workload){.clock = p->clock, .entropy = p->entropy};
}

static moe_status predict_layer(const moe_gpu *gpu, const char *method, moe_workload *w,
                                const moe_row *row, const moe_log *log, moe_prediction **ret) {
    moe_case c = {.T = row->m, .route = row->uniform ? MOE_ROUTE_UNIFORM : MOE_ROUTE_BALANCED};
    moe_layer_desc_init(&c.layer);
    c.layer.d = row->d, c.layer.n = row->n, c.layer.E = row->E, c.layer.K = row->K;
    int64_t *counts = malloc((size_t)row->E * sizeof *counts);
    moe_status st = counts ? moe_counts_draw(&c, log, counts) : MOE_E_NOMEM;
    w->layer = &c.layer, w->tokens = row->m, w->pass = row->pass, w->counts = counts;
    if (!st)
        st = moe_predict(gpu, method, w, log, ret);
    free(counts);
    return st;
}

static moe_status predict_row(const moe_gpu *gpu, const char *method, const moe_workload *state,
                              const moe_row *row, int layers, const moe_log *log, double *ret) {
    moe_prediction *p = NULL;
    moe_workload w = *state;
    moe_status st = layers
                        ? predict_layer(gpu, method, &w, row, log, &p)
                        : moe_predict_gemm(gpu, row->m, row->n, row->k, row->batch, state, log, &p);
    if (!st)
        *ret = p->total_us;
    moe_prediction_free(&p);
    return st;
}

moe_status moe_table_predict(const moe_table *table, size_t i, const moe_gpu *gpu,
                             const char *method, int32_t clock, int32_t entropy, const moe_log *log,
                             moe_row_error *ret) {
    const moe_workload state = {.clock = clock, .entropy = entropy};
    static const char *const pass[] = {"both", "fwd", "bwd", "both"};
    double us;
    if (i >= table->count)
        return moe_fail(log, MOE_E_INVALID, "row %zu of %zu", i, table->count);
    const moe_row *r = &table->rows[i];
    moe_status st =
        predict_row(gpu, method ? method : "cublas", &state, r, table->layers, log, &us);
    if (st)
        return st;
    *ret = (moe_row_error){.measured_us = r->us, .predicted_us = us};
    if (table->layers)
        snprintf(ret->what, sizeof ret->what,
                 "moe T=%lld d=%lld n=%lld E=%lld K=%lld route=%s pass=%s", (long long)r->m,
                 (long long)r->d, (long long)r->n, (long long)r->E, (long long)r->K,
                 r->uniform ? "uniform" : "balanced", pass[r->pass]);
    else
        snprintf(ret->what, sizeof ret->what, "gemm m=%lld n=%lld k=%lld batch=%lld",
                 (long long)r->m, (long long)r->n, (long long)r->k, (long long)r->batch);
    return MOE_OK;
}

/* A value outside its range costs more than any error could gain. */
static int set_point(fit *f, const double *x) {
    int inside = 1;
    for (size_t i = 0; i < f->n_free; i++) {
        const double value = exp(x[i]);
        inside &= value >= f->info[i]->least && value <= f->info[i]->greatest;
        *f->slot[i] = value;
    }
    return inside;
}

static double objective(void *user, const double *x) {
    fit *f = user;
    const moe_workload state = state_of(f->p);
    double sum = 0;
    if (!set_point(f, x))
        return 1e3;
#pragma omp parallel for schedule(dynamic, 16) reduction(+ : sum)
    for (size_t i = 0; i < f->n_sample; i++) {
        const moe_row *row = &f->table->rows[f->sample[i]];
        double us;
        if (predict_row(f->gpu, f->method, &state, row, f->table->layers, NULL, &us) == MOE_OK)
            sum += fabs(log(us / row->us));
        else
            sum += 1e3;
    }
    return sum / (double)f->n_sample;
}

/* Relative errors of the rows of one fold (fold < 0: all that take part). */
static moe_status judge(fit *f, int32_t fold, const moe_log *log) {
    const moe_workload state = state_of(f->p);
    moe_status worst = MOE_OK;
#pragma omp parallel for schedule(dynamic, 16)
    for (size_t i = 0; i < f->table->count; i++) {
        double us = 0;
        if (f->fold[i] < 0 || (fold >= 0 && f->fold[i] != fold))
            continue;
        moe_status st =
            predict_row(f->gpu, f->method, &state, &f->table->rows[i], f->table->layers, NULL, &us);
        f->error[i] = us / f->table->rows[i].us - 1;
        if (st) {
#pragma omp critical
            worst = st;
        }
    }
    return worst ? moe_fail(log, worst, "a row of the table cannot be predicted by method %s",
                            f->method)
                 : MOE_OK;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int in_class(const moe_row *row, int class) {
    return class == MOE_FIT_LARGE ? row->m >= 1024 : row->us >= (class == MOE_FIT_ALL ? 4 : 20);
}

/* Statistics of f->error over rows outside fold `but` (but < 0: all). */
static moe_status summarise(const fit *f, int32_t but, moe_fit_error ret[MOE_FIT_CLASSES]) {
    double *size = malloc(f->table->count * sizeof *size);
    if (!size)
        return MOE_E_NOMEM;
    for (int c = 0; c < MOE_FIT_CLASSES; c++) {
        moe_fit_error e = {0};
        for (size_t i = 0; i < f->table->count; i++) {
            if (f->fold[i] < 0 || f->fold[i] == but || !in_class(&f->table->rows[i], c))
                continue;
            size[e.rows++] = 100 * fabs(f->error[i]);
            e.mean += 100 * fabs(f->error[i]);
            e.bias += 100 * f->error[i];
        }
        if (e.rows > 0) {
            qsort(size, (size_t)e.rows, sizeof *size, by_value);
            e.mean /= (double)e.rows;
            e.bias /= (double)e.rows;
            e.median = size[e.rows / 2];
            e.p90 = size[e.rows * 9 / 10];
        }
        ret[c] = e;
    }
    free(size);
    return MOE_OK;
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
            f->sample[taken++] = i;
    }
    f->n_sample = taken;
}

static void fit_without(fit *f, int32_t fold, const double *start) {
    double x[MOE_INT_FREE_MAX];
    const int evaluations = f->p->evaluations > 0 ? f->p->evaluations : 400;
    memcpy(x, start, sizeof x);
    draw_sample(f, fold);
    if (f->n_sample > 0)
        moe_int_minimise(objective, f, f->n_free, 0.15, evaluations, x);
    set_point(f, x);
}

static moe_status fit_folds(fit *f, const moe_log *messages, moe_fit_result *ret) {
    double start[MOE_INT_FREE_MAX];
    moe_status st = MOE_OK;
    for (size_t i = 0; i < f->n_free; i++)
        start[i] = log(fmax(*f->slot[i], 1e-3)); /* the search is over logarithms */
    for (int32_t fold = 0; !st && fold < f->folds; fold++) {
        fit_without(f, fold, start);
        st = judge(f, fold, messages);
    }
    if (!st)
        st = summarise(f, -1, ret->held_out);
    if (!st)
        st = judge(f, -1, messages);
    if (!st)
        st = summarise(f, f->folds - 1, ret->fitted);
    for (size_t i = 0; i < f->n_free; i++)
        *f->set[i] = 1;
    return st;
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
        f->slot[f->n_free] = moe_int_gpu_slot(f->gpu, key, &f->info[f->n_free], &f->set[f->n_free]);
        if (!f->slot[f->n_free])
            return moe_fail(log, MOE_E_NOTFOUND, "a GPU description has no \"%s\"", key);
        if (!f->info[f->n_free]->fitted)
            return moe_fail(log, MOE_E_INVALID, "%s is a fact about the GPU, not to be fitted",
                            key);
        f->n_free++;
    }
    return MOE_OK;
}

static moe_status take_rows(fit *f, const moe_log *log) {
    size_t rows = 0;
    for (size_t i = 0; i < f->table->count; i++) {
        const moe_row *row = &f->table->rows[i];
        const int take = !f->p->kernel || strcmp(f->p->kernel, row->kernel) == 0;
        f->fold[i] = take ? 0 : -1;
        rows += (size_t)take;
    }
    return rows ? MOE_OK
                : moe_fail(log, MOE_E_NOTFOUND, "the table has no row of kernel \"%s\"",
                           f->p->kernel);
}

static moe_status run(fit *f, uint64_t *order, const moe_log *log, moe_fit_result *ret) {
    moe_fit_result result = {0};
    moe_status st = find_free(f, log);
    if (!st)
        st = take_rows(f, log);
    if (st)
        return st;
    const int32_t shapes = deal_folds(f, order);
    st = judge(f, -1, log);
    if (!st)
        st = summarise(f, -1, result.as_given);
    if (!st && f->n_free > 0)
        st = shapes > 1 ? fit_folds(f, log, &result)
                        : moe_fail(log, MOE_E_INVALID,
                                   "one shape alone cannot be fitted and judged: none is left out");
    if (!st)
        *ret = result;
    return st;
}

moe_status moe_gpu_fit(moe_gpu *gpu, const moe_table *table, const moe_fit_params *params,
                       const moe_log *log, moe_fit_result *ret) {
    fit f = {.gpu = gpu,
             .table = table,
             .p = params,
             .method = params->method ? params->method : "cublas",
             .fold = malloc(table->count * sizeof *f.fold),
             .sample = malloc(table->count * sizeof *f.sample),
             .error = calloc(table->count, sizeof *f.error)};
    uint64_t *order = malloc((table->count + 1) * sizeof *order);
    moe_status st = MOE_E_NOMEM;
    if (f.fold && f.sample && f.error && order)
        st = run(&f, order, log, ret);
    else
        moe_fail(log, st, "calibration: out of memory");
    free(f.fold);
    free(f.sample);
    free(f.error);
    free(order);
    return st;
}
