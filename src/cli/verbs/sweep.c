/* moeref sweep: predictions over a cross product of values, on all cores. */
#include "cli/input/messages.h"
#include "cli/report/csv.h"
#include "cli/report/json.h"
#include "cli/report/plot.h"
#include "cli/verbs/sweep_points.h"
#include "cli/verbs/verbs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A refused point leaves its numbers empty, and one of several GPUs those that are not told. */
static void print_csv_point(const cli_sweep_point *p) {
    for (size_t c = 0; c < CLI_SWEEP_COLUMNS; c++) {
        if (!p->refused && !isnan(p->at[c]))
            printf("%.9g", p->at[c]);
        putchar(',');
    }
    if (p->refused)
        cli_csv_text(stdout, p->refused);
    putchar('\n');
}

static void print_csv(const cli_sweep_run *s) {
    for (size_t a = 0; a < s->axes.count; a++) {
        for (size_t k = 0; k < s->axes.at[a].n_keys; k++)
            printf("%s,", s->axes.at[a].keys[k]);
    }
    for (size_t c = 0; c < CLI_SWEEP_COLUMNS; c++)
        printf("%s,", cli_sweep_columns[c].name);
    printf("refused\n");
    for (size_t i = 0; i < s->count; i++) {
        for (size_t a = 0; a < s->axes.count; a++) {
            for (size_t k = 0; k < s->axes.at[a].n_keys; k++) {
                cli_csv_text(stdout, cli_axes_value(&s->axes, a, k, i));
                putchar(',');
            }
        }
        print_csv_point(&s->points[i]);
    }
}

/* What an axis says of a key at a point, or what holds for all points. */
static const char *value_at(const cli_sweep_run *s, const char *key, size_t point,
                            const char *otherwise) {
    for (size_t a = 0; a < s->axes.count; a++) {
        for (size_t k = 0; k < s->axes.at[a].n_keys; k++) {
            if (strcmp(s->axes.at[a].keys[k], key) == 0)
                return cli_axes_value(&s->axes, a, k, point);
        }
    }
    return otherwise;
}

/* Of points that name none. */
static const char *method_of(const cli_sweep_run *s) {
    return s->o->method                         ? s->o->method
           : cli_spread_is_asked(&s->o->spread) ? "moeref_ep"
                                                : "moeref";
}

/* "case" is what all points share of theirs; "at" is what is their own. */
static void print_json(const cli_sweep_run *s) {
    cli_json t = {.to = stdout};
    for (size_t i = 0; i < s->count; i++) {
        cli_json_open(&t, NULL, '{');
        cli_json_int(&t, "moeref", CLI_JSON_VERSION);
        cli_json_string(&t, "case", s->o->line ? s->o->line : "");
        cli_json_string(&t, "gpu", value_at(s, "gpu", i, moe_gpu_name(s->gpu)));
        cli_json_string(&t, "method", value_at(s, "method", i, method_of(s)));
        cli_json_open(&t, "at", '{');
        for (size_t a = 0; a < s->axes.count; a++) {
            for (size_t k = 0; k < s->axes.at[a].n_keys; k++)
                cli_json_string(&t, s->axes.at[a].keys[k], cli_axes_value(&s->axes, a, k, i));
        }
        cli_json_close(&t, '}');
        for (size_t c = 0; c < CLI_SWEEP_COLUMNS; c++)
            cli_json_real(&t, cli_sweep_columns[c].name, s->points[i].at[c]);
        if (s->points[i].refused)
            cli_json_string(&t, "refused", s->points[i].refused);
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
static void name_series(const cli_sweep_run *s, size_t point, char *ret, size_t size) {
    ret[0] = '\0';
    for (size_t a = 1; a < s->axes.count; a++) {
        const size_t used = strlen(ret);
        snprintf(ret + used, size - used, "%s%s=%s", used ? " " : "", s->axes.at[a].keys[0],
                 cli_axes_value(&s->axes, a, 0, point));
    }
    const char *method = value_at(s, "method", point, NULL);
    if (!ret[0]) /* where the one axis is the method, the line is of none */
        snprintf(ret, size, "%s", method ? "predicted" : method_of(s));
}

/* `series` has the points alone. */
static moe_status draw(const cli_sweep_run *s, const cli_sweep_column *c, const cli_plot *series) {
    char title[256], x_label[64];
    cli_plot p = *series;
    const char *gpu = value_at(s, "gpu", 0, NULL), *method = value_at(s, "method", 0, NULL);
    snprintf(title, sizeof title, "Predicted on %s, method %s",
             gpu ? "GPUs as named" : moe_gpu_name(s->gpu), method ? "as named" : method_of(s));
    label_axis(s->axes.at[0].keys[0], x_label, sizeof x_label);
    p.title = title;
    p.subtitle = s->o->line ? s->o->line : "";
    p.x_label = x_label;
    p.y_label = c->label;
    p.bound_name = c->is_rate ? "most (floor of the time)" : "floor";
    return cli_plot_write(&p, s->o->plot);
}

/* What a plot shows of the points, [count] each. */
typedef struct shown {
    double *y, *bound, *low, *high;
    bool intervals; /* every point that is not refused has one */
} shown;

static bool show(const cli_sweep_run *s, const cli_sweep_column *c, shown *ret) {
    double *all = calloc(4 * s->count, sizeof *all);
    *ret = (shown){all, all + s->count, all + 2 * s->count, all + 3 * s->count, all != NULL};
    for (size_t i = 0; all && i < s->count; i++) {
        const cli_sweep_point *p = &s->points[i];
        ret->y[i] = ret->low[i] = ret->high[i] = p->at[c - cli_sweep_columns];
        ret->bound[i] = cli_sweep_bound(c, p);
        if (!cli_sweep_interval(c, p, &ret->low[i], &ret->high[i]) && !p->refused)
            ret->intervals = false;
    }
    return all != NULL;
}

/* An empty picture says nothing. Points of several GPUs have times alone. */
static moe_status check_column(const cli_sweep_run *s, const cli_sweep_column *c) {
    for (size_t i = 0; i < s->count; i++)
        if (!isnan(s->points[i].at[c - cli_sweep_columns]))
            return MOE_OK;
    return s->refused == s->count
               ? moe_fail(cli_log(), MOE_E_UNSUPPORTED, "no picture: every point is refused")
               : moe_fail(cli_log(), MOE_E_INVALID,
                          "no picture: no point has a number in column %s; --y us has", c->name);
}

/* The first axis is the plot's x; every combination of the others is a line. */
static moe_status plot(const cli_sweep_run *s, const cli_sweep_column *c) {
    const size_t n_x = s->axes.at[0].n_values, lines = s->count / n_x;
    if (lines == 0)
        return MOE_OK;
    const moe_status missing = check_column(s, c);
    if (missing)
        return missing;
    shown d;
    char(*names)[256] = calloc(lines, sizeof *names);
    const char **name_at = calloc(lines, sizeof *name_at), **x = calloc(n_x, sizeof *x);
    moe_status status = show(s, c, &d) && names && name_at && x ? MOE_OK : MOE_E_NOMEM;
    for (size_t i = 0; !status && i < n_x; i++)
        x[i] = cli_axes_value(&s->axes, 0, 0, i * lines);
    for (size_t i = 0; !status && i < lines; i++) {
        name_series(s, i, names[i], sizeof *names);
        name_at[i] = names[i];
    }
    const cli_plot p = {.names = name_at,
                        .n_series = lines,
                        .x = x,
                        .n_x = n_x,
                        .y = d.y,
                        .bound = d.bound,
                        .low = d.intervals ? d.low : NULL,
                        .high = d.intervals ? d.high : NULL,
                        .interval_name = "80 % interval"};
    if (!status)
        status = draw(s, c, &p);
    free(names);
    free(name_at);
    free(x);
    free(d.y);
    return status;
}

/* What an axis varies nothing else may fix. */
static moe_status check_fixed(const cli_sweep_run *s) {
    const cli_sweep_options *o = s->o;
    const struct {
        const char *key, *option;
        bool is_given;
    } fixed[] = {{"gpu", "gpu", o->model.gpu != NULL},
                 {"method", "method", o->method != NULL},
                 {"ep", "ep", o->spread.ep > 0},
                 {"tp", "tp", o->spread.tp > 0},
                 {"chunks", "chunks", o->spread.chunks > 0},
                 {"comm_sms", "comm-sms", o->spread.comm_sms > 0}};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (fixed[i].is_given && value_at(s, fixed[i].key, 0, NULL))
            return moe_fail(cli_log(), MOE_E_INVALID,
                            "--%s is read at no point: --vary has %s for each", fixed[i].option,
                            fixed[i].key);
    return MOE_OK;
}

static moe_status run(cli_sweep_run *s) {
    size_t column = 0;
    moe_status status = cli_sweep_column_find(s->o->y ? s->o->y : "tflops", &column);
    if (!status && s->o->y && !s->o->plot)
        status =
            moe_fail(cli_log(), MOE_E_INVALID, "--y goes with --plot: the table has every column");
    if (!status)
        status = cli_spread_open(&s->o->spread, &s->o->model, &s->node, &s->gpu, &s->state);
    if (!status)
        status = cli_axes_parse(&s->o->vary, &s->axes);
    if (!status)
        status = check_fixed(s);
    if (status)
        return status;
    s->points = calloc(cli_axes_points(&s->axes), sizeof *s->points);
    if (!s->points)
        return moe_fail(cli_log(), MOE_E_NOMEM, "sweep: out of memory");
    s->count = cli_axes_points(&s->axes);
    status = cli_sweep_predict(s);
    if (!status && s->o->output == CLI_JSON)
        print_json(s);
    else if (!status)
        print_csv(s);
    return !status && s->o->plot ? plot(s, &cli_sweep_columns[column]) : status;
}

int cli_sweep(int argc, char **argv) {
    cli_sweep_options o = {.spread = CLI_SPREAD_DEFAULTS, .output = CLI_CSV};
    cli_sweep_run s = {.o = &o};
    char help[8192];
    const cli_option options[] = {
        {"vary", CLI_STRINGS, &o.vary, "KEY=V,V,..",
         "an axis: a case key, gpu, method, a GPU parameter, or ep, tp, chunks and comm_sms;\n"
         "may be repeated"},
        {"case", CLI_STRING, &o.line, "\"T=..\"", "what stays: the other words of the case"},
        {"method", CLI_STRING, &o.method, "NAME", "who runs it (default moeref, or moeref_ep)"},
        CLI_MODEL_OPTIONS(o.model),
        CLI_SPREAD_OPTIONS(o.spread),
        {"output", CLI_OUTPUT, &o.output, "csv|json", "default csv; json: one object a line"},
        {"plot", CLI_STRING, &o.plot, "FILE",
         "a picture, .svg or .png, by gnuplot, whose script goes beside it; any other name: the "
         "script alone. x is the first axis, what no kernel beats a dashed line, and where 80 of\n"
         "100 measured times lie a band (us and tflops)"},
        {"y", CLI_STRING, &o.y, "COLUMN", "what is plotted (default tflops)"},
        {0}};
    cli_method_help(help, sizeof help);
    cli_spread_help(help, sizeof help);
    int code = cli_parse(argc, argv,
                         "Predicts a cross product of values. Keys that move together share an "
                         "axis: n/E/K=256/128/8,512/64/4. A point that a method or GPU cannot do "
                         "says so in `refused`; the others go on, and the exit code is 1",
                         options, help, NULL);
    if (code < 0 && o.vary.count == 0)
        code = cli_usage("sweep needs --vary KEY=VALUE,VALUE (moeref sweep --help)");
    if (code < 0 && o.plot)
        code = cli_plot_check(o.plot);
    if (code < 0)
        code = cli_exit_code(run(&s));
    if (code == CLI_PASSED && s.refused)
        code = CLI_FAILED;
    for (size_t i = 0; i < s.count; i++)
        free(s.points[i].refused);
    free(s.points);
    moe_gpu_destroy(&s.gpu);
    moe_node_destroy(&s.node);
    cli_axes_destroy(&s.axes);
    cli_strings_destroy(&o.vary);
    cli_strings_destroy(&o.model.what_if);
    return code;
}
