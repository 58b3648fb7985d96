/* moeref calibrate: fits a GPU description to a measured table and says what it is worth. */
#include "cli/input/messages.h"
#include "cli/input/question.h"
#include "cli/verbs/verbs.h"
#include "moeref/fit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOT_GIVEN INT64_MIN /* a number that any value could stand for */

typedef struct calibrate_options {
    cli_model_options model;
    moe_fit_params fit;
    const char *from, *where, *node, *to, *source, *rows;
    int64_t folds, evaluations, sample, min_us, seed;
} calibrate_options;

static void print_line(const char *what, const char *class, const moe_fit_error *e) {
    printf(
        "  %-22s %-15s %6lld rows  mean %5.2f %%  median %5.2f %%  p90 %5.1f %%  bias %+5.2f %%\n",
        what, class, (long long)e->rows, e->mean, e->median, e->p90, e->bias);
}

static void print_error(const char *what, const moe_fit_error e[MOE_FIT_CLASSES]) {
    static const char *const names[] = {">= 4 us", ">= 20 us", "m or T >= 1024"};
    for (int c = 0; c < MOE_FIT_CLASSES; c++) {
        if (e[c].rows > 0) {
            print_line(what, names[c], &e[c]);
            what = "";
        }
    }
}

static void print_kernels(const moe_fit_result *r) {
    for (size_t i = 0; i < r->n_kernels; i++)
        print_line(i                     ? ""
                   : r->held_out[0].rows ? "held-out, by kernel"
                                         : "as given, by kernel",
                   r->kernels[i].name, &r->kernels[i].error);
}

static void print_free(const moe_node *node, const moe_gpu *gpu, const char *keys) {
    char key[64];
    while (*keys) {
        const size_t length = strcspn(keys, ",");
        double value;
        snprintf(key, sizeof key, "%.*s", (int)length, keys);
        if ((node ? moe_node_get(node, key, &value) : moe_gpu_get(gpu, key, &value)) == MOE_OK)
            printf("  %-28s %.5g\n", key, value);
        keys += length + (keys[length] == ',');
    }
}

/* Every row that can be fitted with its prediction, and the one of the fit that did not see its
 * shape (0: nothing was fitted), tab-separated: for plots and for looking at the worst. */
static moe_status write_rows(const calibrate_options *o, const moe_table *table,
                             const moe_gpu *gpu) {
    FILE *to = fopen(o->rows, "w");
    moe_status status =
        to ? MOE_OK : moe_fail(cli_log(), MOE_E_IO, "%s: cannot be written", o->rows);
    if (to)
        fprintf(to, "what\tkernel\tmeasured_us\tpredicted_us\trelative_error\tlow_us\thigh_us\t"
                    "held_out_us\n");
    for (size_t i = 0; !status && i < moe_table_rows(table); i++) {
        moe_row_error e;
        status = moe_table_predict(table, i, gpu, &o->fit, cli_log(), &e);
        if (status == MOE_E_NOTFOUND) /* a kernel that the method lacks; the fit has said so */
            status = MOE_OK;
        else if (!status && e.kind != MOE_ROW_PASS)
            fprintf(to, "%s\t%s\t%.3f\t%.3f\t%+.4f\t%.3f\t%.3f\t%.3f\n", e.what, e.kernel,
                    e.measured_us, e.predicted_us, e.predicted_us / e.measured_us - 1, e.low_us,
                    e.high_us, o->fit.ret_held_out[i]);
    }
    if (to && fclose(to) != 0 && !status)
        status = moe_fail(cli_log(), MOE_E_IO, "%s: cannot be written", o->rows);
    return status;
}

/* `as_given` is the same description, of which nothing changes: where nothing is fitted, rows are
 * judged by its intervals, not by those that the rows themselves make. */
static moe_status calibrate(const calibrate_options *o, moe_gpu *gpu, const moe_gpu *as_given,
                            const moe_table *table) {
    moe_fit_result r;
    if (o->fit.free_keys)
        cli_progress("fitting %s on %zu rows", o->fit.free_keys, moe_table_rows(table));
    moe_status status = moe_gpu_fit(gpu, table, &o->fit, cli_log(), &r);
    cli_progress_clear();
    if (status)
        return status;
    printf("%s on %s\n", o->from, o->fit.node ? moe_node_name(o->fit.node) : moe_gpu_name(gpu));
    print_error("as given", r.as_given);
    print_error("fitted rows", r.fitted);
    print_error("held-out shapes", r.held_out);
    print_kernels(&r);
    if (o->fit.free_keys)
        print_free(o->fit.node, gpu, o->fit.free_keys);
    if (o->rows)
        status = write_rows(o, table, o->fit.free_keys ? gpu : as_given);
    if (!status && o->to) {
        const char *source = o->source ? o->source : "moeref calibrate";
        status = o->fit.node ? moe_node_write(o->fit.node, o->to, "fitted", source, cli_log())
                             : moe_gpu_write(gpu, o->to, "fitted", source, cli_log());
        if (!status)
            printf("wrote %s\n", o->to);
    }
    return status;
}

/* What rows of this kind do not read. Where the first row has no prediction, others say why. */
static moe_status check_kind(const calibrate_options *o, const moe_gpu *gpu,
                             const moe_table *table) {
    const cli_model_options *m = &o->model;
    const bool has_state = m->clock || m->data || m->operands || m->converts || m->in_stream;
    moe_row_error e;
    if (moe_table_predict(table, 0, gpu, &o->fit, NULL, &e))
        return MOE_OK;
    if (e.kind != MOE_ROW_TRANSFER && (o->node || o->where))
        return moe_fail(cli_log(), MOE_E_INVALID,
                        "--node and --where are of transfers between GPUs: %s has none", o->from);
    if (e.kind == MOE_ROW_TRANSFER && (has_state || m->gpu || m->what_if.count || o->fit.method))
        return moe_fail(cli_log(), MOE_E_INVALID,
                        "%s has transfers, which a --node alone predicts: no option of GPU, state "
                        "or method is read",
                        o->from);
    if (e.kind == MOE_ROW_GEMM && o->fit.method && strcmp(o->fit.method, "cublas") != 0)
        return moe_fail(cli_log(), MOE_E_INVALID,
                        "--method is of layers: %s has products, which are cuBLAS's", o->from);
    const moe_workload state = {.storage = o->fit.storage, .converts = o->fit.converts};
    return cli_converts_check(&state, e.kind == MOE_ROW_GEMM, cli_log());
}

/* -1, or an exit code after a sentence. */
static int check_options(const calibrate_options *o) {
    if (!o->from)
        return cli_usage("calibrate needs --from FILE (a measured table)");
    if (o->folds > 1000 || o->evaluations > 1000000 || o->sample > 1000000)
        return cli_usage("--folds takes 1000 at most, --evaluations and --sample 1000000");
    if (!o->fit.free_keys &&
        (o->folds || o->evaluations || o->sample || o->seed != NOT_GIVEN || o->min_us != NOT_GIVEN))
        return cli_usage("--folds, --evaluations, --sample, --seed and --min-us are of a fit: say "
                         "--free too");
    if (o->source && !o->to)
        return cli_usage("--source goes into the file of --to");
    return -1;
}

static int run(calibrate_options *o) {
    moe_gpu *gpu = NULL, *as_given = NULL;
    moe_table *table = NULL;
    moe_workload state;
    const int code = check_options(o);
    if (code >= 0)
        return code;
    moe_status status = cli_model_open(&o->model, &gpu, &state);
    if (!status)
        status = moe_table_load_where(o->from, o->where, cli_log(), &table);
    if (!status && o->node)
        status = moe_node_load(o->node, cli_log(), &o->fit.node);
    if (!status)
        status = moe_gpu_clone(gpu, &as_given);
    if (!status) {
        o->fit.ret_held_out = calloc(moe_table_rows(table), sizeof *o->fit.ret_held_out);
        if (!o->fit.ret_held_out)
            status = moe_fail(cli_log(), MOE_E_NOMEM, "calibrate: out of memory");
    }
    if (!status) {
        o->fit.folds = (int32_t)o->folds;
        o->fit.evaluations = (int32_t)o->evaluations;
        o->fit.sample = (int32_t)o->sample;
        o->fit.min_us = o->min_us == NOT_GIVEN ? 4 : (double)o->min_us;
        o->fit.seed = o->seed == NOT_GIVEN ? 0 : (uint64_t)o->seed;
        o->fit.clock = state.clock;
        o->fit.entropy = state.entropy;
        o->fit.in_stream = state.in_stream;
        o->fit.storage = state.storage;
        o->fit.converts = state.converts;
        status = check_kind(o, gpu, table);
    }
    if (!status)
        status = calibrate(o, gpu, as_given, table);
    moe_table_destroy(&table);
    moe_node_destroy(&o->fit.node);
    moe_gpu_destroy(&gpu);
    moe_gpu_destroy(&as_given);
    free(o->fit.ret_held_out);
    return cli_exit_code(status);
}

int cli_calibrate(int argc, char **argv) {
    calibrate_options o = {.min_us = NOT_GIVEN, .seed = NOT_GIVEN};
    const cli_option options[] = {
        {"from", CLI_STRING, &o.from, "FILE",
         "the measured table, in tabs, commas or as JSON (sim/README.md has the columns), or the "
         "kernels of what moeref bench --output json wrote"},
        {"free", CLI_STRING, &o.fit.free_keys, "KEY,KEY",
         "parameters to fit: tensor_eff, cutlass_moe.stream ... (without it: judge only)"},
        {"kernel", CLI_STRING, &o.fit.kernel, "NAME", "only rows of this kernel"},
        {"node", CLI_STRING, &o.node, "NAME|FILE",
         "for transfers between GPUs: the node that is fitted, in the GPU's place"},
        {"where", CLI_STRING, &o.where, "COL=VALUE,..",
         "for transfers: only lines whose columns have these values"},
        {"method", CLI_STRING, &o.fit.method, "NAME",
         "for layers and their kernels: who ran (default cublas)"},
        {"min-us", CLI_INT, &o.min_us, "US", "shorter rows are not fitted (default 4)"},
        {"folds", CLI_COUNT, &o.folds, "N", "leave-shapes-out folds (default 5)"},
        {"evaluations", CLI_COUNT, &o.evaluations, "N", "of the objective per fold (default 400)"},
        {"sample", CLI_COUNT, &o.sample, "N", "rows per evaluation at most (default 800)"},
        {"seed", CLI_INT, &o.seed, "N", "deals shapes to folds"},
        {"to", CLI_STRING, &o.to, "FILE", "write the fitted description"},
        {"source", CLI_STRING, &o.source, "TEXT", "where the table came from, for that file"},
        {"rows", CLI_STRING, &o.rows, "FILE",
         "write each row with its prediction, and with --free that of the fit\nthat did not see "
         "its shape"},
        CLI_MODEL_OPTIONS(o.model),
        {0}};
    int code = cli_parse(argc, argv,
                         "Fits parameters of a GPU description to measured times. Errors are "
                         "told for shapes that were left out.",
                         options, NULL, NULL);
    if (code < 0)
        code = run(&o);
    cli_strings_destroy(&o.model.what_if);
    return code;
}
