/* moeref sweep: predictions over a cross product of values, on all cores. */
#include "cli/input/axes.h"
#include "cli/input/messages.h"
#include "cli/input/question.h"
#include "cli/report/csv.h"
#include "cli/report/json.h"
#include "cli/report/plot.h"
#include "cli/report/sweep_point.h"
#include "cli/verbs/verbs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct sweep_options {
    cli_model_options model;
    const char *line, *method, *plot, *y;
    cli_strings vary;
    cli_output output;
} sweep_options;

typedef struct sweep {
    const sweep_options *o;
    cli_axes axes;
    moe_gpu *gpu; /* of the command line */
    moe_workload state;
    cli_sweep_point *points;
    char **refused; /* why a point has no prediction; NULL: it has one */
    size_t count;
} sweep;

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
static moe_status choose_gpu(const sweep *s, size_t point, moe_gpu **ret) {
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
typedef struct sweep_work {
    cli_question question;
    moe_gpu *gpu;
    const char *method;
    char line[4096];
} sweep_work;

static moe_status prepare_key(const char *key, const char *value, sweep_work *w) {
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
        return moe_gpu_what_if(w->gpu, edit, cli_log());
    }
    if ((size_t)snprintf(w->line + used, sizeof w->line - used, " %s=%s", key, value) >=
        sizeof w->line - used)
        return moe_fail(cli_log(), MOE_E_INVALID, "a case line of more than %zu characters",
                        sizeof w->line);
    return MOE_OK;
}

static moe_status prepare_point(const sweep *s, size_t i, sweep_work *w) {
    *w = (sweep_work){.method = s->o->method};
    snprintf(w->line, sizeof w->line, "%s", s->o->line ? s->o->line : "moe");
    moe_status status = choose_gpu(s, i, &w->gpu);
    for (size_t a = 0; !status && a < s->axes.count; a++) {
        for (size_t k = 0; !status && k < s->axes.at[a].n_keys; k++)
            status = prepare_key(s->axes.at[a].keys[k], cli_axes_value(&s->axes, a, k, i), w);
    }
    return status ? status : cli_question_parse(w->line, cli_log(), &w->question);
}

static void clear_work(sweep_work *w) {
    cli_question_destroy(&w->question);
    moe_gpu_destroy(&w->gpu);
}

typedef char sentence[512];

static void keep_error(void *user, moe_log_level level, const char *message) {
    if (level == MOE_LOG_ERROR)
        snprintf(user, sizeof(sentence), "%s", message);
    else
        moe_log_send(cli_log(), level, "%s", message);
}

/* A method that has no kernels for this GPU or these operands is no error of the sweep: the point
 * keeps why. */
static moe_status ask(const sweep *s, const sweep_work *w, size_t i, moe_prediction **ret) {
    sentence why = "";
    const moe_log log = {keep_error, why};
    moe_status status = cli_question_predict(&w->question, w->gpu, w->method, &s->state, &log, ret);
    if (status == MOE_E_UNSUPPORTED) {
        s->refused[i] = strdup(why);
        return s->refused[i] ? MOE_OK : moe_fail(cli_log(), MOE_E_NOMEM, "sweep: out of memory");
    }
    return status && why[0] ? moe_fail(cli_log(), status, "%s", why) : status;
}

static moe_status predict_point(const sweep *s, size_t i, cli_sweep_point *p) {
    sweep_work w;
    moe_prediction *r = NULL;
    moe_status status = prepare_point(s, i, &w);
    if (!status)
        status = ask(s, &w, i, &r);
    if (!status && r)
        *p = cli_sweep_point_of(r);
    moe_prediction_destroy(&r);
    clear_work(&w);
    return status;
}

/* The first point alone, so that what is wrong with all of them is said once. */
static moe_status predict_points(sweep *s) {
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
    return first;
}

static void print_csv(const sweep *s) {
    for (size_t a = 0; a < s->axes.count; a++) {
        for (size_t k = 0; k < s->axes.at[a].n_keys; k++)
            printf("%s,", s->axes.at[a].keys[k]);
    }
    for (size_t c = 0; c < CLI_SWEEP_COLUMNS; c++)
        printf("%s,", cli_sweep_columns[c].name);
    puts("refused");
    for (size_t i = 0; i < s->count; i++) {
        for (size_t a = 0; a < s->axes.count; a++) {
            for (size_t k = 0; k < s->axes.at[a].n_keys; k++) {
                cli_csv_text(stdout, cli_axes_value(&s->axes, a, k, i));
                putchar(',');
            }
        }
        for (size_t c = 0; c < CLI_SWEEP_COLUMNS && !s->refused[i]; c++)
            printf("%.9g,", s->points[i].at[c]);
        for (size_t c = 0; c < CLI_SWEEP_COLUMNS && s->refused[i]; c++)
            putchar(',');
        cli_csv_text(stdout, s->refused[i] ? s->refused[i] : "");
        putchar('\n');
    }
}

/* What an axis says of a key at a point, or what holds for all points. */
static const char *value_at(const sweep *s, const char *key, size_t point, const char *otherwise) {
    for (size_t a = 0; a < s->axes.count; a++) {
        for (size_t k = 0; k < s->axes.at[a].n_keys; k++) {
            if (strcmp(s->axes.at[a].keys[k], key) == 0)
                return cli_axes_value(&s->axes, a, k, point);
        }
    }
    return otherwise;
}

/* "case" is what all points share of theirs; "at" is what is their own. */
static void print_json(const sweep *s) {
    cli_json t = {.to = stdout};
    for (size_t i = 0; i < s->count; i++) {
        cli_json_open(&t, NULL, '{');
        cli_json_int(&t, "moeref", CLI_JSON_VERSION);
        cli_json_string(&t, "case", s->o->line ? s->o->line : "");
        cli_json_string(&t, "gpu", value_at(s, "gpu", i, moe_gpu_name(s->gpu)));
        cli_json_string(&t, "method", value_at(s, "method", i, s->o->method));
        cli_json_open(&t, "at", '{');
        for (size_t a = 0; a < s->axes.count; a++) {
            for (size_t k = 0; k < s->axes.at[a].n_keys; k++)
                cli_json_string(&t, s->axes.at[a].keys[k], cli_axes_value(&s->axes, a, k, i));
        }
        cli_json_close(&t, '}');
        if (s->refused[i])
            cli_json_string(&t, "refused", s->refused[i]);
        for (size_t c = 0; c < CLI_SWEEP_COLUMNS && !s->refused[i]; c++)
            cli_json_real(&t, cli_sweep_columns[c].name, s->points[i].at[c]);
        cli_json_close(&t, '}');
        cli_json_line(&t);
    }
}

/* "T" or "hbm_bw (GB/s)". */
static void label_axis(const char *key, char *ret, size_t size) {
    moe_gpu_param info;
    snprintf(ret, size, "%s%s", key, strcmp(key, "T") == 0 ? " (tokens)" : "");
    for (size_t i = 0; (info = moe_gpu_param_at(i)).key; i++)
        if (strcmp(info.key, key) == 0 && info.unit[0])
            snprintf(ret, size, "%s (%s)", key, info.unit);
}

/* What the values of the axes behind the first are at a point. */
static void name_series(const sweep *s, size_t point, char *ret, size_t size) {
    ret[0] = '\0';
    for (size_t a = 1; a < s->axes.count; a++) {
        const size_t used = strlen(ret);
        snprintf(ret + used, size - used, "%s%s=%s", used ? " " : "", s->axes.at[a].keys[0],
                 cli_axes_value(&s->axes, a, 0, point));
    }
    if (!ret[0])
        snprintf(ret, size, "%s", value_at(s, "method", point, s->o->method));
}

/* `series` has the points alone. */
static moe_status draw(const sweep *s, const cli_sweep_column *c, const cli_plot *series) {
    char title[256], x_label[64];
    cli_plot p = *series;
    const char *gpu = value_at(s, "gpu", 0, NULL), *method = value_at(s, "method", 0, NULL);
    snprintf(title, sizeof title, "Predicted on %s, method %s",
             gpu ? "GPUs as named" : moe_gpu_name(s->gpu), method ? "as named" : s->o->method);
    label_axis(s->axes.at[0].keys[0], x_label, sizeof x_label);
    p.title = title;
    p.subtitle = s->o->line ? s->o->line : "";
    p.x_label = x_label;
    p.y_label = c->label;
    p.bound_name = c->is_rate ? "most (floor of the time)" : "floor";
    return cli_plot_write(&p, s->o->plot);
}

/* The first axis is the plot's x; every combination of the others is a line. */
static moe_status plot(const sweep *s, const cli_sweep_column *c) {
    const size_t n_x = s->axes.at[0].n_values, lines = s->count / n_x;
    char(*names)[256] = calloc(lines, sizeof *names);
    const char **name_at = calloc(lines, sizeof *name_at), **x = calloc(n_x, sizeof *x);
    double *y = calloc(s->count, sizeof *y), *bound = calloc(s->count, sizeof *bound);
    moe_status status = names && name_at && x && y && bound ? MOE_OK : MOE_E_NOMEM;
    for (size_t i = 0; !status && i < s->count; i++) {
        y[i] = s->refused[i] ? NAN : s->points[i].at[c - cli_sweep_columns];
        bound[i] = cli_sweep_bound(c, &s->points[i]);
        if (i % lines == 0)
            x[i / lines] = cli_axes_value(&s->axes, 0, 0, i);
    }
    for (size_t i = 0; !status && i < lines; i++) {
        name_series(s, i, names[i], sizeof *names);
        name_at[i] = names[i];
    }
    const cli_plot p = {
        .names = name_at, .n_series = lines, .x = x, .n_x = n_x, .y = y, .bound = bound};
    if (!status)
        status = draw(s, c, &p);
    free(names);
    free(name_at);
    free(x);
    free(y);
    free(bound);
    return status;
}

/* The exit code says that something is missing. */
static moe_status tell_refusals(const sweep *s) {
    size_t refused = 0, last = 0;
    for (size_t i = 0; i < s->count; i++) {
        refused += s->refused[i] != NULL;
        last = s->refused[i] ? i : last;
    }
    return refused ? moe_fail(cli_log(), MOE_E_UNSUPPORTED, "%zu of %zu points were refused: %s",
                              refused, s->count, s->refused[last])
                   : MOE_OK;
}

static moe_status run(sweep *s) {
    size_t column = 0;
    moe_status status = cli_sweep_column_find(s->o->y, &column);
    if (!status)
        status = cli_model_open(&s->o->model, &s->gpu, &s->state);
    if (!status)
        status = cli_axes_parse(&s->o->vary, &s->axes);
    if (status)
        return status;
    s->points = calloc(cli_axes_points(&s->axes), sizeof *s->points);
    s->refused = calloc(cli_axes_points(&s->axes), sizeof *s->refused);
    if (!s->points || !s->refused)
        return moe_fail(cli_log(), MOE_E_NOMEM, "sweep: out of memory");
    s->count = cli_axes_points(&s->axes);
    status = predict_points(s);
    if (!status && s->o->output == CLI_JSON)
        print_json(s);
    else if (!status)
        print_csv(s);
    if (!status && s->o->plot)
        status = plot(s, &cli_sweep_columns[column]);
    return status ? status : tell_refusals(s);
}

int cli_sweep(int argc, char **argv) {
    sweep_options o = {.method = "moeref", .y = "tflops", .output = CLI_CSV};
    sweep s = {.o = &o};
    char help[4096];
    const cli_option options[] = {
        {"vary", CLI_STRINGS, &o.vary, "KEY=V,V,..",
         "an axis: a case key, gpu, method or a GPU parameter; may be repeated"},
        {"case", CLI_STRING, &o.line, "\"T=..\"", "what stays: the other words of the case"},
        {"method", CLI_STRING, &o.method, "NAME", "who runs it (default moeref)"},
        CLI_MODEL_OPTIONS(o.model),
        {"output", CLI_OUTPUT, &o.output, "csv|json", "default csv; json: one object a line"},
        {"plot", CLI_STRING, &o.plot, "FILE",
         "a picture, .svg or .png, by gnuplot, whose script goes beside it; any other name: the "
         "script alone. x is the first axis, and what no kernel beats is a dashed line"},
        {"y", CLI_STRING, &o.y, "COLUMN", "what is plotted (default tflops)"},
        {0}};
    cli_method_help(help, sizeof help);
    int code = cli_parse(argc, argv,
                         "Predicts a cross product of values. Keys that move together share an "
                         "axis: n/E/K=256/128/8,512/64/4.\nA method that has no kernels for a "
                         "GPU refuses: the point says why (column refused), the exit code is 3.",
                         options, help, NULL);
    if (code < 0 && o.vary.count == 0)
        code = cli_usage("sweep needs --vary KEY=VALUE,VALUE (moeref sweep --help)");
    if (code < 0 && o.plot)
        code = cli_plot_check(o.plot);
    if (code < 0)
        code = cli_exit_code(run(&s));
    for (size_t i = 0; i < s.count; i++)
        free(s.refused[i]);
    free(s.refused);
    free(s.points);
    moe_gpu_destroy(&s.gpu);
    cli_axes_destroy(&s.axes);
    cli_strings_destroy(&o.vary);
    cli_strings_destroy(&o.model.what_if);
    return code;
}
