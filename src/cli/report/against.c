/* Measured times beside predicted ones: a report of `moeref bench --output json` is read and each
 * kernel that the method has too is judged. */
#include "cli/input/messages.h"
#include "cli/report/bench.h"
#include "cli/report/json.h"
#include "cli/report/prediction.h"
#include "moeref/fit.h"

#include <math.h>

#define SHORTEST_US 4.0 /* shorter kernels are launches: listed, not judged in the mean */

typedef struct against {
    const moe_gpu *gpu;
    moe_fit_params params; /* method and state */
    bool json;
    const char *line; /* of the case whose rows are being judged */
    int64_t rows;     /* kernels and passes that both sides have */
    int64_t judged;
    double sum; /* of |predicted / measured - 1|, over the judged kernels */
    bool impossible;
} against;

/* By the interval of the prediction, where it has one. */
static const char *verdict_of(const moe_row_error *e) {
    if (!(e->high_us > 0) || cli_time_impossible(e->measured_us, e->least_us))
        return cli_time_verdict(e->measured_us, e->predicted_us, e->least_us);
    if (e->measured_us > e->high_us)
        return "slow";
    return e->measured_us < e->low_us ? "faster than the model" : "on model";
}

static void print_times(against *a, const moe_row_error *e) {
    const char *says = verdict_of(e);
    a->rows++;
    a->impossible |= cli_time_impossible(e->measured_us, e->least_us);
    if (a->json) {
        cli_json t = {.to = stdout};
        cli_json_open(&t, NULL, '{');
        cli_json_int(&t, "moeref", CLI_JSON_VERSION);
        cli_json_string(&t, "case", e->what);
        cli_json_string(&t, "gpu", moe_gpu_name(a->gpu));
        cli_json_string(&t, "method", a->params.method);
        cli_json_string(&t, "name", e->kernel);
        cli_json_real(&t, "measured_us", e->measured_us);
        cli_json_real(&t, "predicted_us", e->predicted_us);
        cli_json_real(&t, "floor_us", e->floor_us);
        if (e->high_us > 0) {
            cli_json_real(&t, "low_us", e->low_us);
            cli_json_real(&t, "high_us", e->high_us);
        }
        cli_json_string(&t, "verdict", says);
        cli_json_close(&t, '}');
        cli_json_line(&t);
        return;
    }
    /* As bench has it, and as the verdict goes: 1.10 of the prediction is slow. */
    printf("  %-15s %12.1f %12.1f %12.1f %9.2f  %s", e->kernel, e->measured_us, e->predicted_us,
           e->floor_us, e->measured_us / e->predicted_us, says);
    if (e->high_us > 0)
        printf(" (80 %% within %.1f to %.1f)", e->low_us, e->high_us);
    printf("\n");
}

/* One row. The first of a case, whose line all its rows point to, stands below that line. */
static void judge_row(against *a, const moe_row_error *e) {
    if (!a->json && a->line != e->what)
        printf("%s\n%s on %s\n  %-15s %12s %12s %12s %9s\n", e->what, a->params.method,
               moe_gpu_name(a->gpu), "", "measured us", "predicted us", "floor us", "measured/");
    a->line = e->what;
    print_times(a, e);
    if (e->kind == MOE_ROW_KERNEL && e->measured_us >= SHORTEST_US) {
        a->sum += fabs(e->predicted_us / e->measured_us - 1);
        a->judged++;
    }
}

/* Kernels and passes that the prediction lacks are left out. */
static moe_status judge_rows(against *a, const char *path, const moe_table *table) {
    for (size_t i = 0; i < moe_table_rows(table); i++) {
        moe_row_error e;
        const moe_status status = moe_table_predict(table, i, a->gpu, &a->params, cli_log(), &e);
        if (!status && e.kind < MOE_ROW_KERNEL)
            return moe_fail(cli_log(), MOE_E_FORMAT,
                            "%s: a table, not a report of moeref bench --output json; moeref "
                            "calibrate --from judges it",
                            path);
        if (!status)
            judge_row(a, &e);
        else if (status != MOE_E_NOTFOUND || !moe_method_brief(a->params.method))
            return status;
    }
    return MOE_OK;
}

moe_status cli_against(const char *path, const moe_gpu *gpu, const char *method,
                       const moe_workload *state, bool json, bool *ret_impossible) {
    against a = {.gpu = gpu,
                 .params = {.method = method,
                            .clock = state->clock,
                            .entropy = state->entropy,
                            .in_stream = state->in_stream,
                            .storage = state->storage},
                 .json = json};
    moe_table *table = NULL;
    moe_status status = moe_table_load(path, cli_log(), &table);
    if (!status)
        status = judge_rows(&a, path, table);
    if (!status && a.rows == 0)
        status = moe_fail(cli_log(), MOE_E_NOTFOUND,
                          "%s: no pass or kernel of method %s is timed in it", path, method);
    if (!status && !json && a.judged > 0)
        printf("mean error of %lld kernels of %.0f us and more: %.1f %%\n", (long long)a.judged,
               SHORTEST_US, 100 * a.sum / (double)a.judged);
    if (!status)
        *ret_impossible = a.impossible;
    moe_table_destroy(&table);
    return status;
}
