#include "cli/verbs/sweep_points.h"
#include "cli/input/messages.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_gpu_key(const char *key) {
    moe_gpu_param info;
    for (size_t i = 0; (info = moe_gpu_param_at(i)).key; i++) {
        if (strcmp(info.key, key) == 0)
            return true;
    }
    return strchr(key, '.') != NULL;
}

/* A clone of the GPU of the command line, or the one that the point names; its other GPU keys
 * change it afterwards. */
static moe_status choose_gpu(const cli_sweep_run *s, size_t point, moe_gpu **ret) {
    for (size_t a = 0; a < s->axes.count; a++) {
        for (size_t k = 0; k < s->axes.at[a].n_keys; k++) {
            if (strcmp(s->axes.at[a].keys[k], "gpu") == 0) {
                cli_model_options m = s->o->model;
                moe_workload state;
                m.gpu = cli_axes_value(&s->axes, a, k, point);
                return cli_model_open(&m, ret, &state);
            }
        }
    }
    return moe_gpu_clone(s->gpu, ret);
}

/* A point while it is predicted. */
typedef struct point_work {
    cli_question question;
    cli_spread_options spread;
    moe_gpu *gpu;
    const char *method; /* NULL: the default */
    char line[4096];
} point_work;

static moe_status prepare_key(const char *key, const char *value, const moe_log *log,
                              point_work *w) {
    char edit[256];
    const size_t used = strlen(w->line);
    if (strcmp(key, "gpu") == 0)
        return MOE_OK;
    if (strcmp(key, "method") == 0) {
        w->method = value;
        return MOE_OK;
    }
    if (is_gpu_key(key)) {
        snprintf(edit, sizeof edit, "%s=%s", key, value);
        return moe_gpu_what_if(w->gpu, edit, log);
    }
    if ((size_t)snprintf(w->line + used, sizeof w->line - used, " %s=%s", key, value) >=
        sizeof w->line - used)
        return moe_fail(log, MOE_E_INVALID, "a case line of more than %zu characters",
                        sizeof w->line);
    return MOE_OK;
}

static moe_status prepare_point(const cli_sweep_run *s, size_t i, const moe_log *log,
                                point_work *w) {
    *w = (point_work){.method = s->o->method, .spread = s->o->spread};
    snprintf(w->line, sizeof w->line, "%s", s->o->line ? s->o->line : "moe");
    moe_status status = choose_gpu(s, i, &w->gpu);
    for (size_t a = 0; !status && a < s->axes.count; a++) {
        for (size_t k = 0; !status && k < s->axes.at[a].n_keys; k++)
            status = prepare_key(s->axes.at[a].keys[k], cli_axes_value(&s->axes, a, k, i), log, w);
    }
    char *rest = NULL;
    if (!status)
        status = cli_spread_take(w->line, log, &w->spread, &rest);
    if (!status)
        status = cli_question_parse(rest ? rest : w->line, log, &w->question);
    free(rest);
    return status;
}

static void clear_work(point_work *w) {
    cli_question_destroy(&w->question);
    moe_gpu_destroy(&w->gpu);
}

/* A point that cannot be. */
static moe_status refuse(cli_sweep_point *p, const char *why) {
    *p = (cli_sweep_point){.refused = strdup(why)};
    for (size_t c = 0; c < CLI_SWEEP_COLUMNS; c++)
        p->at[c] = NAN;
    return p->refused ? MOE_OK : MOE_E_NOMEM;
}

static moe_status predict_alone(const cli_sweep_run *s, const point_work *w, const moe_log *log,
                                cli_sweep_point *p) {
    moe_prediction *r = NULL;
    const moe_status status = cli_question_predict(
        &w->question, w->gpu, w->method ? w->method : "moeref", &s->state, log, &r);
    if (!status)
        *p = cli_sweep_point_of(r);
    moe_prediction_destroy(&r);
    return status;
}

/* Where methods are an axis some points may have no use for an option that others read. */
static moe_status check_spread(const cli_sweep_run *s, const char *method, const point_work *w,
                               const moe_log *log) {
    const moe_status status = cli_converts_check(&s->state, false, log);
    return status || w->method != s->o->method ? status
                                               : cli_spread_check(&w->spread, &method, 1, log);
}

static moe_status predict_spread(const cli_sweep_run *s, const point_work *w, const moe_log *log,
                                 cli_sweep_point *p) {
    const moe_ep_options o = cli_spread_for(&w->spread, w->method);
    moe_ep_prediction *r = NULL;
    moe_status status = check_spread(s, o.method, w, log);
    if (!status)
        status = moe_predict_ep(s->node, w->gpu, &w->question.c, &s->state, &o, log, &r);
    if (!status)
        *p = cli_sweep_point_spread(r);
    moe_ep_prediction_destroy(&r);
    return status;
}

/* Errors are kept, and told once where they end the sweep. */
static void pass_warning(void *user, moe_log_level level, const char *message) {
    (void)user;
    if (level != MOE_LOG_ERROR)
        moe_log_send(cli_log(), level, "%s", message);
}

static moe_status predict_point(const cli_sweep_run *s, size_t i, cli_sweep_point *p) {
    static const moe_log warnings = {pass_warning, NULL};
    cli_heard heard = {.log = &warnings};
    const moe_log log = cli_hear(&heard);
    point_work w;
    moe_status status = prepare_point(s, i, &log, &w);
    if (!status && !cli_spread_is_asked(&w.spread))
        status = cli_spread_check(&w.spread, NULL, 0, &log);
    if (!status)
        status = (cli_spread_is_asked(&w.spread) ? predict_spread : predict_alone)(s, &w, &log, p);
    clear_work(&w);
    if (status == MOE_E_UNSUPPORTED)
        return refuse(p, heard.why);
    /* Whoever opened the point's GPU has said why it could not. */
    return status && heard.why[0] ? moe_fail(cli_log(), status, "%s", heard.why) : status;
}

/* The first point alone, so that what is wrong with all of them is said once. */
moe_status cli_sweep_predict(cli_sweep_run *s) {
    size_t done = 1;
    moe_status first = predict_point(s, 0, &s->points[0]);
#pragma omp parallel for schedule(dynamic, 64)
    for (size_t i = 1; i < s->count; i++) {
        moe_status before, status;
        size_t now;
#pragma omp atomic read
        before = first;
        if (before)
            continue;
        status = predict_point(s, i, &s->points[i]);
        if (status) {
#pragma omp atomic write
            first = status;
        }
#pragma omp atomic capture
        now = ++done;
        if (now % 1024 == 0) {
#pragma omp critical
            cli_progress("%zu of %zu points", now, s->count);
        }
    }
    cli_progress_clear();
    for (size_t i = 0; i < s->count; i++)
        s->refused += s->points[i].refused != NULL;
    return first;
}
