/* moeref memory: which tensors does a layer keep, for how long, and what is that at its peak? */
#include "cli/input/messages.h"
#include "cli/input/question.h"
#include "cli/report/ledger.h"
#include "cli/report/plot.h"
#include "cli/verbs/verbs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct memory_options {
    cli_model_options model;
    cli_strings cases, methods;
    const char *config, *layers, *dtype, *pass, *plot;
    int64_t tokens;
    cli_output output;
    bool all_methods;
} memory_options;

/* What was found for each question and method, for the plot. */
typedef struct found {
    char granularity[32];  /* d / n */
    double *cached, *peak; /* [methods] bytes; 0: not modelled */
} found;

typedef struct ledger {
    const memory_options *o;
    moe_gpu *gpu;
    moe_workload state;
    int64_t layers;
    found *rows; /* [n_rows] */
    size_t n_rows;
} ledger;

/* The method that stands for a backend of this project, whose allocations are known. */
static bool is_own(const char *method) {
    return strcmp(method, "moeref") == 0;
}

static void print(const ledger *l, const cli_predicted *what, const moe_prediction *p,
                  const moe_allocation *a) {
    switch (l->o->output) {
    case CLI_TEXT:
        cli_ledger_text(stdout, what, l->layers, p, a);
        break;
    case CLI_JSON:
        cli_ledger_json(stdout, what, l->layers, p, a);
        break;
    case CLI_CSV:
        cli_ledger_csv(stdout, what, l->layers, p, a);
        break;
    }
}

/* Of all methods, those that do not model the case are left out. */
static moe_status answer_one(const ledger *l, const cli_question *q, size_t method, found *row) {
    const moe_log silent = {0};
    const char *name = l->o->methods.at[method];
    moe_prediction *p = NULL;
    moe_status status = cli_question_predict(q, l->gpu, name, &l->state,
                                             l->o->all_methods ? &silent : cli_log(), &p);
    if (status)
        return l->o->all_methods && status == MOE_E_UNSUPPORTED ? MOE_OK : status;
    const cli_ledger_sums s = cli_ledger_sum(p, l->layers);
    const cli_predicted what = {q, l->gpu, name};
    row->cached[method] = s.cached;
    row->peak[method] = s.peak;
    moe_allocation allocation;
    const bool own = is_own(name);
    if (own)
        status =
            moe_allocation_of(l->gpu, &q->c, l->o->all_methods ? &silent : cli_log(), &allocation);
    /* What the backend does not run has a ledger of what would be alive alone. */
    print(l, &what, p, own && !status ? &allocation : NULL);
    moe_prediction_destroy(&p);
    return status == MOE_E_UNSUPPORTED ? MOE_OK : status;
}

static moe_status answer(ledger *l, const cli_question *q) {
    const size_t n = l->o->methods.count;
    if (q->is_gemm)
        return moe_fail(cli_log(), MOE_E_INVALID, "memory is of a layer; a gemm keeps nothing");
    if (q->c.split.ranks)
        return moe_fail(cli_log(), MOE_E_INVALID, "memory is of one GPU: leave ep= out");
    found *row = &l->rows[l->n_rows++];
    row->cached = calloc(n, sizeof *row->cached);
    row->peak = calloc(n, sizeof *row->peak);
    if (!row->cached || !row->peak)
        return moe_fail(cli_log(), MOE_E_NOMEM, "memory: out of memory");
    snprintf(row->granularity, sizeof row->granularity, "%g",
             (double)q->c.layer.d / (double)q->c.layer.n);
    moe_status status = MOE_OK;
    for (size_t i = 0; !status && i < n; i++)
        status = answer_one(l, q, i, row);
    return status;
}

/* One ledger stands for all MoE layers: they must have the same sizes. */
static moe_status check_equal(const ledger *l, const moe_case *c, int64_t all) {
    const moe_layer_desc *first = &c->layer;
    for (int64_t layer = 0; layer < all; layer++) {
        moe_layer_desc d;
        int64_t hidden;
        const moe_status status = moe_layer_of_config(l->o->config, layer, cli_log(), &d, &hidden);
        if (status == MOE_E_NOTFOUND) /* it has no experts */
            continue;
        if (status)
            return status;
        if (d.d != first->d || d.n != first->n || d.E != first->E || d.K != first->K ||
            d.n_shared != first->n_shared || hidden != c->hidden)
            return moe_fail(cli_log(), MOE_E_UNSUPPORTED,
                            "layer %lld has other sizes than the first with experts: memory "
                            "--layers all adds up equal ones (predict --layers all any)",
                            (long long)layer);
    }
    return MOE_OK;
}

static moe_status answer_config(ledger *l) {
    cli_question q;
    int64_t all = 0;
    moe_status status =
        cli_question_config(l->o->config, l->o->tokens, l->o->dtype, l->o->pass, NULL, &q);
    if (status)
        return status;
    if (l->o->layers)
        status = moe_layers_from_config(l->o->config, cli_log(), &l->layers, &all);
    if (!status)
        status = check_equal(l, &q.c, all);
    if (!status)
        status = answer(l, &q);
    cli_question_destroy(&q);
    return status;
}

static moe_status answer_all(ledger *l) {
    moe_status status = MOE_OK;
    l->rows = calloc(l->o->cases.count + 1, sizeof *l->rows);
    if (!l->rows)
        return moe_fail(cli_log(), MOE_E_NOMEM, "memory: out of memory");
    if (l->o->output == CLI_CSV)
        cli_ledger_csv_header(stdout);
    for (size_t i = 0; !status && i < l->o->cases.count; i++) {
        cli_question q;
        status = cli_question_parse(l->o->cases.at[i], cli_log(), &q);
        if (!status) {
            status = answer(l, &q);
            cli_question_destroy(&q);
        }
    }
    return !status && l->o->config ? answer_config(l) : status;
}

/* The lines of a plot: what each method keeps and its peak, in MB, over the cases' granularity. */
typedef struct lines {
    size_t count; /* two for each method that models the first case */
    char (*text)[64];
    const char **names, **x;
    double *y, *none; /* [rows][count] */
} lines;

static bool is_modelled(const ledger *l, size_t method) {
    return l->rows[0].peak && l->rows[0].peak[method] > 0;
}

static void fill_lines(const ledger *l, lines *to) {
    size_t s = 0;
    for (size_t m = 0; m < l->o->methods.count; m++) {
        if (!is_modelled(l, m))
            continue;
        for (size_t i = 0; i < l->n_rows; i++) {
            const bool known = l->rows[i].peak[m] > 0;
            to->y[i * to->count + s] = known ? l->rows[i].cached[m] / 1e6 : NAN;
            to->y[i * to->count + s + 1] = known ? l->rows[i].peak[m] / 1e6 : NAN;
        }
        snprintf(to->text[s], sizeof *to->text, "%s cached", l->o->methods.at[m]);
        snprintf(to->text[s + 1], sizeof *to->text, "%s peak", l->o->methods.at[m]);
        to->names[s] = to->text[s];
        to->names[s + 1] = to->text[s + 1];
        s += 2;
    }
    for (size_t i = 0; i < l->n_rows; i++)
        to->x[i] = l->rows[i].granularity;
}

static moe_status draw(const ledger *l, const lines *from) {
    char shared[256];
    cli_plot_shared(l->o->cases.at, l->o->cases.count, shared, sizeof shared);
    const cli_plot p = {.title = "Activation memory of a layer",
                        .subtitle = l->o->config ? l->o->config : shared,
                        .x_label = "granularity d/n",
                        .y_label = "MB",
                        .names = from->names,
                        .n_series = from->count,
                        .x = from->x,
                        .n_x = l->n_rows,
                        .y = from->y,
                        .bound = from->none,
                        .bound_name = ""};
    return cli_plot_write(&p, l->o->plot);
}

static moe_status plot(const ledger *l) {
    lines to = {0};
    for (size_t m = 0; m < l->o->methods.count; m++)
        to.count += is_modelled(l, m) ? 2 : 0;
    if (!to.count)
        return moe_fail(cli_log(), MOE_E_UNSUPPORTED, "--plot: no method models the first case");
    to.text = calloc(to.count, sizeof *to.text);
    to.names = calloc(to.count, sizeof *to.names);
    to.x = calloc(l->n_rows, sizeof *to.x);
    to.y = calloc(l->n_rows * to.count, sizeof *to.y);
    to.none = calloc(l->n_rows * to.count, sizeof *to.none);
    moe_status status = to.text && to.names && to.x && to.y && to.none
                            ? MOE_OK
                            : moe_fail(cli_log(), MOE_E_NOMEM, "memory: out of memory");
    if (!status) {
        fill_lines(l, &to);
        status = draw(l, &to);
    }
    free(to.text);
    free(to.names);
    free(to.x);
    free(to.y);
    free(to.none);
    return status;
}

static moe_status choose_methods(memory_options *o) {
    moe_status status = MOE_OK;
    o->all_methods =
        o->methods.count == 0 || (o->methods.count == 1 && strcmp(o->methods.at[0], "all") == 0);
    if (!o->all_methods)
        return MOE_OK;
    o->methods.count = 0;
    for (const char *const *m = moe_methods(); !status && *m; m++)
        status = cli_strings_add(&o->methods, *m);
    return status;
}

/* -1, or an exit code after a sentence. */
static int check_options(const memory_options *o) {
    if (o->cases.count == 0 && !o->config)
        return cli_usage("memory needs --case or --config (moeref memory --help)");
    if ((o->layers || o->dtype || o->pass || o->tokens) && !o->config)
        return cli_usage("--layers, --dtype, --pass and --tokens go with --config");
    if (o->layers && strcmp(o->layers, "all") != 0)
        return cli_usage("--layers takes \"all\"");
    return o->plot ? cli_plot_check(o->plot) : -1;
}

static int run(memory_options *o) {
    ledger l = {.o = o, .layers = 1};
    moe_status status = choose_methods(o);
    if (!status)
        status = cli_model_open(&o->model, &l.gpu, &l.state);
    if (!status)
        status = answer_all(&l);
    if (!status && o->plot)
        status = plot(&l);
    for (size_t i = 0; i < l.n_rows; i++) {
        free(l.rows[i].cached);
        free(l.rows[i].peak);
    }
    free(l.rows);
    moe_gpu_destroy(&l.gpu);
    return cli_exit_code(status);
}

int cli_memory(int argc, char **argv) {
    memory_options o = {0};
    char help[4096];
    const cli_option options[] = {
        {"case", CLI_STRINGS, &o.cases, "\"T=.. d=..\"", "a layer; may be repeated"},
        {"config", CLI_STRING, &o.config, "FILE", "a layer's shape from a config.json"},
        {"layers", CLI_STRING, &o.layers, "all",
         "with --config: all MoE layers, each keeping its cache while one runs"},
        {"dtype", CLI_STRING, &o.dtype, "bf16|fp16", "with --config (default: as the file says)"},
        {"pass", CLI_STRING, &o.pass, "fwd|bwd|both", "with --config (default both)"},
        {"tokens", CLI_COUNT, &o.tokens, "T", "with --config (default 4096)"},
        {"method", CLI_STRINGS, &o.methods, "NAME",
         "who runs it (default all that can); may be repeated"},
        {"gpu", CLI_STRING, &o.model.gpu, "NAME|FILE",
         "whose methods (default h100-sxm); what is alive is the same on all"},
        {"operands", CLI_STRING, &o.model.operands, "TYPE",
         "of the products: bf16, fp16, fp8, mxfp8, nvfp4, mxfp4, int8 or tf32"},
        {"plot", CLI_STRING, &o.plot, "FILE",
         "a picture, .svg or .png, by gnuplot: cached and peak over the cases' granularity d/n"},
        {"output", CLI_OUTPUT, &o.output, "text|json|csv", "json: one object a line"},
        {0}};
    cli_method_help(help, sizeof help);
    int code = cli_parse(
        argc, argv,
        "Lists the tensors of a layer with their bytes and lives: what the "
        "backward pass needs is cached,\nthe most that is alive at once is the "
        "peak (its tensors are marked *). pass=fwd: the forward pass of a training step, whose "
        "cache is told all the same.\n"
        "Method moeref also lists, to the byte, what the backend cuda allocates for a "
        "layer (with pass=fwd for inference: no cache) and what its operator takes of a caller's "
        "memory. It is more than is alive at once: nothing is given back between passes.",
        options, help, NULL);
    if (code < 0)
        code = check_options(&o);
    if (code < 0)
        code = run(&o);
    cli_strings_destroy(&o.cases);
    cli_strings_destroy(&o.methods);
    return code;
}
