/* moeref trace: the predicted timeline of a layer, for https://ui.perfetto.dev. */
#include "cli/input/messages.h"
#include "cli/input/question.h"
#include "cli/verbs/predict_spread.h"
#include "cli/verbs/verbs.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct trace_options {
    cli_model_options model;
    cli_spread_options spread;
    const char *line, *method, *to;
    int64_t max_tiles;
} trace_options;

static moe_status trace_alone(const trace_options *o, const char *line) {
    moe_gpu *gpu = NULL;
    moe_workload state;
    cli_question s = {0};
    const char *method = o->method ? o->method : "moeref";
    moe_status status = cli_model_open(&o->model, &gpu, &state);
    if (!status)
        status = cli_converts_check(&state, false, cli_log());
    if (!status)
        status = cli_question_parse(line, cli_log(), &s);
    if (!status && s.is_gemm)
        status = moe_fail(cli_log(), MOE_E_UNSUPPORTED,
                          "a trace shows a layer; use one expert, E=1 K=1, for a dense one");
    if (!status) {
        const moe_workload w = moe_workload_of(&s.c, s.counts, &state);
        status = moe_trace_write(gpu, method, &w, o->max_tiles, o->to, cli_log());
    }
    cli_question_destroy(&s);
    moe_gpu_destroy(&gpu);
    return status;
}

static int run(const trace_options *o) {
    if (!o->line)
        return cli_usage("trace needs --case \"T=.. d=.. n=.. E=.. K=..\"");
    cli_spread_options spread = o->spread;
    char *rest = NULL;
    moe_status status = cli_spread_take(o->line, cli_log(), &spread, &rest);
    const char *line = rest ? rest : o->line;
    const bool several = cli_spread_is_asked(&spread);
    if (!status && !several)
        status = cli_spread_check(&spread, NULL, 0, cli_log());
    if (!status && several && o->max_tiles)
        status = moe_fail(cli_log(), MOE_E_INVALID,
                          "--max-tiles is of one GPU: of several, tasks are drawn, not tiles");
    if (!status)
        status = several ? cli_trace_spread(&spread, &o->model, line, o->method, o->to)
                         : trace_alone(o, line);
    if (!status)
        printf("wrote %s: open it in https://ui.perfetto.dev\n", o->to);
    free(rest);
    return cli_exit_code(status);
}

int cli_trace(int argc, char **argv) {
    trace_options o = {.spread = CLI_SPREAD_DEFAULTS, .to = "trace.json"};
    char help[8192];
    const cli_option options[] = {
        {"case", CLI_STRING, &o.line, "\"T=.. d=..\"", "the layer"},
        {"method", CLI_STRING, &o.method, "NAME", "who runs it (default moeref, or moeref_ep)"},
        {"to", CLI_STRING, &o.to, "FILE", "what to write (default trace.json)"},
        {"max-tiles", CLI_COUNT, &o.max_tiles, "N",
         "slices drawn at most, neighbours are merged beyond (default 200000)"},
        CLI_MODEL_OPTIONS(o.model),
        CLI_SPREAD_OPTIONS(o.spread),
        {0}};
    cli_method_help(help, sizeof help);
    cli_spread_help(help, sizeof help);
    int code = cli_parse(
        argc, argv,
        "Writes a Chrome trace: one row for kernels, one for each SM. What predict calls "
        "(overhead) "
        "is of no kernel and not drawn: its total is longer by that. Of several GPUs (--ep, "
        "--node): a row for the SMs, those that send, and each direction of the links.",
        options, help, NULL);
    if (code < 0)
        code = run(&o);
    cli_strings_destroy(&o.model.what_if);
    return code;
}
