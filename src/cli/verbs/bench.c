/* moeref bench: correct first, then timed. */
#include "cli/report/bench.h"
#include "cli/input/devices.h"
#include "cli/input/messages.h"
#include "cli/input/select.h"
#include "cli/report/bench_ranks.h"
#include "cli/report/html.h"
#include "cli/report/json.h"
#include "cli/verbs/verbs.h"
#include "moeref/check.h"

#include <stdio.h>

/* OLMoE-1B-7B's layer (arXiv 2409.02060) at 2048 tokens. */
static const char *const default_case = "T=2048 d=2048 n=1024 E=64 K=8 dtype=fp32 renorm=1 seed=1";

typedef struct bench_options {
    cli_selection selection;
    cli_strings backends;
    cli_isolation isolation;
    cli_output output;
    cli_timing timing;
    cli_node_model node; /* over ranks */
    cli_html html;
    cli_verdicts verdicts; /* of what was checked before it was timed */
    int64_t threads;
    bool no_check;
} bench_options;

/* A problem on a backend, over ranks where it asks for them. */
typedef struct subject {
    cli_devices devices;
    const moe_problem *problem;
    moe_ep_params ep;
    moe_backend *over_ranks; /* NULL: one device */
} subject;

static moe_backend *timed(const subject *s) {
    return s->over_ranks ? s->over_ranks : s->devices.at[0];
}

static moe_status spread(subject *s, const moe_problem *problem, const bench_options *o) {
    const cli_ranks *ranks = &o->selection.ranks;
    s->problem = problem;
    s->over_ranks = NULL;
    if (!problem->split.ranks && o->node.node)
        return moe_fail(cli_log(), MOE_E_INVALID, "--node predicts ranks: say --ep too");
    if (!problem->split.ranks)
        return MOE_OK;
    moe_status status = cli_devices_open_ranks(&s->devices, ranks, problem, &s->ep);
    return status ? status
                  : moe_ep_open(s->devices.at, s->devices.count, &s->ep, cli_log(), &s->over_ranks);
}

static moe_status check_subject(const subject *s, const moe_check_params *params,
                                moe_check_result **ret) {
    return s->over_ranks ? moe_check_ranks(s->devices.at, s->devices.count, &s->ep, s->problem,
                                           params, cli_log(), ret)
                         : moe_check_backend(s->devices.at[0], s->problem, params, cli_log(), ret);
}

/* A wrong result has no speed. Returns an exit code, CLI_PASSED to go on. */
static int check_first(const subject *s, bench_options *options) {
    moe_check_result *r = NULL;
    const moe_problem *problem = s->problem;
    moe_check_params params = {.threads = (int32_t)options->threads, .spec = s->devices.spec};
    cli_progress("checking %s before it is timed", problem->name);
    moe_status status = check_subject(s, &params, &r);
    cli_progress_clear();
    if (!status)
        status = cli_verdicts_add(&options->verdicts, r);
    if (status) {
        moe_check_result_destroy(&r);
        return cli_exit_code(status);
    }
    moe_verdict verdict = r->verdict;
    if (verdict > MOE_VERDICT_AMBIGUOUS)
        fprintf(stderr, "moeref: %s is not timed: %s on %s (%s); %s says more\n", problem->name,
                moe_verdict_str(verdict), r->backend, r->why, r->reproduce);
    if (verdict == MOE_VERDICT_SKIP)
        return CLI_USAGE;
    return verdict > MOE_VERDICT_AMBIGUOUS ? CLI_FAILED : CLI_PASSED;
}

static int bench_one(const subject *s, bench_options *options, json_t *results) {
    moe_bench_result result;
    const moe_problem *problem = s->problem;
    int code = options->no_check ? CLI_PASSED : check_first(s, options);
    if (code)
        return code;
    const char *spec = s->over_ranks ? moe_backend_name(s->over_ranks) : s->devices.spec;
    moe_status status = cli_bench_time(timed(s), problem, &options->timing, &result);
    if (!status && s->over_ranks && options->node.node)
        status = cli_bench_by_node(&options->node, problem, &s->ep, &result);
    if (!status)
        status =
            cli_html_add_timing(&options->html, problem->name, spec, &result, !options->no_check);
    if (status)
        return cli_exit_code(status);
    if (options->output == CLI_TEXT) {
        cli_bench_text(stdout, problem, spec, &result);
        if (s->over_ranks)
            cli_bench_ranks_text(stdout, s->over_ranks, problem);
        if (options->no_check)
            printf("  NOT CHECKED: these times may belong to a wrong result\n");
    } else if (options->output == CLI_CSV) {
        cli_bench_csv(stdout, problem, spec, &result);
    } else {
        json_t *object = cli_bench_json(problem, spec, &result);
        json_object_set_new(object, "checked", json_boolean(!options->no_check));
        if (s->over_ranks)
            json_object_set_new(object, "ranks", cli_bench_ranks_json(s->over_ranks, problem));
        json_array_append_new(results, object);
    }
    fflush(stdout);
    return cli_bench_impossible(problem, &result) ? CLI_FAILED : CLI_PASSED;
}

/* Every selected problem on one backend; the worst exit code. */
static int bench_backend(const cli_backends *backends, const char *spec, const cli_items *items,
                         bench_options *options, json_t *results) {
    subject s = {.devices = {.all = backends->all,
                             .spec = spec,
                             .params = {.threads = (int32_t)options->threads, .log = cli_log()}}};
    moe_status status = cli_devices_open(&s.devices, 1);
    int worst = cli_exit_code(status);
    for (size_t i = 0; !status && i < items->count; i++) {
        moe_problem *problem = NULL;
        cli_progress("drawing %s", items->at[i].name);
        moe_status made = cli_problem(&options->selection, &items->at[i], &problem);
        cli_progress_clear();
        if (!made)
            made = spread(&s, problem, options);
        int code = made ? cli_exit_code(made) : bench_one(&s, options, results);
        if (s.over_ranks)
            moe_backend_close(&s.over_ranks);
        if (code > worst)
            worst = code;
        moe_problem_destroy(&problem);
    }
    int closed = cli_exit_code(cli_devices_close(&s.devices));
    return closed > worst ? closed : worst;
}

static int bench_all(bench_options *options) {
    cli_backends backends;
    cli_items items;
    moe_status status = cli_backends_choose(&options->backends, &options->isolation, &backends);
    if (status)
        return cli_exit_code(status);
    status = cli_select(&options->selection, &items);
    if (status) {
        cli_backends_destroy(&backends);
        return cli_exit_code(status);
    }
    /* Unnamed: the preferred backend alone, which comes first. */
    size_t count = options->backends.count ? backends.count : 1;
    json_t *results = json_array();
    int worst = CLI_PASSED;
    if (options->output == CLI_CSV)
        cli_bench_csv_header(stdout);
    for (size_t i = 0; i < count; i++) {
        int code = bench_backend(&backends, backends.spec[i], &items, options, results);
        if (code > worst)
            worst = code;
    }
    if (options->output == CLI_JSON) {
        json_t *root = json_pack("{s:i, s:O}", "moeref", CLI_JSON_VERSION, "bench", results);
        json_dumpf(root, stdout, JSON_INDENT(1));
        printf("\n");
        json_decref(root);
    }
    json_decref(results);
    worst = cli_html_write(&options->html, &options->verdicts, worst);
    cli_items_destroy(&items);
    cli_backends_destroy(&backends);
    return worst;
}

static int run(bench_options *o) {
    if (o->node.method && !o->node.node)
        return cli_usage("--node-method is of the model: name a --node too");
    int code = cli_node_model_check(&o->node);
    if (code < 0)
        code = cli_timing_check(&o->timing);
    if (code < 0)
        code = cli_html_check(&o->html);
    if (code >= 0)
        return code;
    if (cli_selects_nothing(&o->selection) && cli_strings_add(&o->selection.cases, default_case))
        return CLI_NOT_RUN;
    return bench_all(o);
}

int cli_bench(int argc, char **argv) {
    bench_options o = {.selection = {.layer = CLI_FIRST_LAYER},
                       .timing = {.repeats = 7},
                       .html = {.argc = argc, .argv = argv}};
    const cli_option options[] = {
        CLI_BACKENDS_OPTION(o.backends,
                            "what to time (default: the preferred one); may be repeated"),
        CLI_SELECTION_OPTIONS(o.selection),
        CLI_RANKS_OPTIONS(o.selection.ranks),
        CLI_TIMING_OPTIONS(o.timing),
        {"node", CLI_STRING, &o.node.node, "NAME|FILE",
         "with --ep: predict passes for these GPUs and links (moeref list --nodes), each rank one "
         "of them"},
        {"node-method", CLI_STRING, &o.node.method, "NAME",
         "with --node: the model's method (default: ep_serial)"},
        CLI_THREADS_OPTION(o.threads),
        CLI_ISOLATION_OPTIONS(o.isolation),
        {"settle", CLI_INT, &o.timing.settle_ms, "MS",
         "untimed runs for so long first (default 0); with --gpu, from 300 on times are predicted "
         "at the clock that the power limit allows, else at a cool device's"},
        {"cold-cache", CLI_FLAG, &o.timing.cold_cache, NULL, "read 256 MiB between runs"},
        {"no-check", CLI_FLAG, &o.no_check, NULL, "do not check first; the report says so"},
        CLI_OUTPUT_OPTION(o.output, "text|json|csv"),
        CLI_HTML_OPTION(o.html),
        {0}};
    int code = cli_parse(
        argc, argv,
        "Checks a backend on each case (by a sample of the oracle where a full one would take too "
        "long), then\ntimes forward and backward: median, spread (interquartile range over "
        "median), GFLOP/s of model\nFLOPs (padding never counts), and the time that a roofline "
        "measured on this device predicts.\nWhere the backend can tell, clock, power and "
        "temperature of the device's board are sampled during the timed runs.\nWith --gpu a time "
        "below what that GPU can do at best is a measuring error: it is reported and the exit code "
        "is 1.\nThe clock that the GPU model assumed stands beside the measured one.\nWithout "
        "--case or --hf it times OLMoE's layer at 2048 tokens (3 GiB of memory).",
        options, CLI_CASE_HELP, NULL);
    if (code < 0) {
        code = cli_exit_code(cli_ranks_start(&o.selection.ranks, &o.backends, argv));
        code = code == CLI_PASSED ? run(&o) : code;
    }
    cli_html_destroy(&o.html);
    cli_verdicts_destroy(&o.verdicts);
    cli_strings_destroy(&o.backends);
    cli_selection_destroy(&o.selection);
    return code;
}
