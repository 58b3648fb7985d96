/* moeref validate: the main job. Check every backend against goldens and edge cases, time one, hold
 * its times against a prediction; one report, one exit code. */
#include "cli/input/messages.h"
#include "cli/report/bench.h"
#include "cli/report/html.h"
#include "cli/report/json_text.h"
#include "cli/report/tint.h"
#include "cli/report/verdict.h"
#include "cli/verbs/verbs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The GPU cost model knows bf16, CPUs are timed in fp32. */
static const char *const bench_case = "T=1024 d=1024 n=512 E=32 K=4 dtype=fp32 renorm=1 seed=1";
static const char *const gpu_bench_case = "T=1024 d=1024 n=512 E=32 K=4 dtype=bf16 renorm=1 seed=1";

typedef struct validate_options {
    cli_selection selection;
    cli_strings backends;
    cli_isolation isolation;
    cli_output output;
    cli_timing timing;
    cli_html html;
    int64_t threads;
} validate_options;

/* The tensor with the largest NMSE of a verdict. */
static const moe_tensor_verdict *worst_tensor(const moe_check_result *r) {
    const moe_tensor_verdict *worst = NULL;
    for (size_t i = 0; i < r->n_tensors; i++)
        if (!worst || r->tensor[i].nmse > worst->nmse)
            worst = &r->tensor[i];
    return worst;
}

/* Golden layers get a line each; of the edge cases only what did not pass is shown. */
static void print_verdict(void *user, const moe_check_result *r) {
    const validate_options *o = user;
    if (o->output != CLI_TEXT)
        return;
    if (r->verdict > MOE_VERDICT_SKIP) {
        cli_verdict_text(stdout, r, false);
    } else if (strncmp(r->case_name, "hf:", 3) == 0) {
        const moe_tensor_verdict *w = worst_tensor(r);
        const char *family = strrchr(r->case_name, '/');
        printf("  %-16s %-9s %2zu tensors, worst NMSE %.1e (%s)\n",
               family ? family + 1 : r->case_name, moe_verdict_str(r->verdict), r->n_tensors,
               w ? w->nmse : 0.0, w ? w->name : "-");
    }
    fflush(stdout);
}

static int check_backends(validate_options *o, const cli_backends *backends, const cli_items *items,
                          cli_verdicts *verdicts) {
    moe_check_params params = {.threads = (int32_t)o->threads};
    int worst = CLI_PASSED;
    for (size_t i = 0; i < backends->count; i++) {
        size_t first = verdicts->count;
        if (o->output == CLI_TEXT)
            printf("check %s on %zu cases\n", backends->spec[i], items->count);
        int code = cli_judge_backend(backends, backends->spec[i], &o->selection, items, &params,
                                     print_verdict, o, verdicts);
        if (o->output == CLI_TEXT) {
            printf("  ");
            cli_verdict_summary(stdout, verdicts, first);
        }
        if (code > worst)
            worst = code;
    }
    return worst;
}

/* Times the preferred backend; NULL in *ret_json where text was printed instead. If it is wrong
 * there, that is one more verdict. */
static int bench_preferred(validate_options *o, const cli_backends *backends,
                           cli_verdicts *verdicts, json_t **ret_json) {
    moe_open_params open = {.threads = (int32_t)o->threads, .log = cli_log()};
    const moe_check_params how = {.threads = (int32_t)o->threads, .spec = backends->spec[0]};
    cli_item item = {(char *)(o->timing.gpu ? gpu_bench_case : bench_case), 'c'};
    moe_backend *backend = NULL;
    moe_problem *problem = NULL;
    moe_check_result *checked = NULL;
    moe_bench_result result;
    moe_status status =
        moe_backend_open(backends->all, backends->spec[0], &open, cli_log(), &backend);
    if (!status)
        status = cli_problem(&o->selection, &item, &problem);
    cli_progress("%s: is it right on %s, which is timed?", backends->spec[0], item.name);
    if (!status)
        status = moe_check_backend(backend, problem, &how, cli_log(), &checked);
    cli_progress_clear();
    bool right = !status && checked->verdict <= MOE_VERDICT_AMBIGUOUS;
    if (!status && !right)
        cli_verdict_text(o->output == CLI_TEXT ? stdout : stderr, checked, false);
    if (right)
        status = cli_bench_time(backend, problem, &o->timing, &result);
    if (right && !status)
        status = cli_html_add_timing(&o->html, problem->name, backends->spec[0], &result, true);
    if (right && !status && o->output == CLI_TEXT)
        cli_bench_text(stdout, problem, backends->spec[0], &result);
    else if (right && !status)
        *ret_json = cli_bench_json(problem, backends->spec[0], &result);
    if (right && !status)
        right = !cli_bench_impossible(problem, &result);
    bool wrong = checked && checked->verdict > MOE_VERDICT_AMBIGUOUS;
    if (!wrong || cli_verdicts_add(verdicts, checked))
        moe_check_result_destroy(&checked);
    moe_problem_destroy(&problem);
    right = moe_backend_close(&backend) == MOE_OK && right;
    return status ? cli_exit_code(status) : right ? CLI_PASSED : CLI_FAILED;
}

/* What keeps a run, whatever passes, from validating anything; "": nothing does. */
static void find_missing(const validate_options *o, const cli_backends *backends, char *ret,
                         size_t size) {
    const cli_selection *s = &o->selection;
    const bool is_suite = cli_selects_nothing(s);
    char *golden = cli_golden_dir(s->golden);
    const char *reason = "";
    ret[0] = '\0';
    for (size_t i = 0; i < moe_backends_count(backends->all); i++)
        if (moe_backends_info(backends->all, i).status != MOE_OK)
            reason = moe_backends_info(backends->all, i).reason;
    if (!o->backends.count && backends->count == 1 && strcmp(backends->spec[0], "reference") == 0)
        snprintf(ret, size,
                 "no backend but the reference, which is what others are held to, can run here%s%s "
                 "(moeref list; $MOEREF_BACKEND_PATH)",
                 reason[0] ? ": " : "", reason);
    else if (is_suite && !golden)
        snprintf(ret, size,
                 "there are no golden files to hold a backend to (--golden DIR, "
                 "$MOEREF_GOLDEN)");
    free(golden);
}

static int print_json(const cli_verdicts *verdicts, json_t *bench, const char *missing, int code) {
    json_t *root = cli_verdicts_json(verdicts);
    if (missing[0])
        json_object_set_new(root, "missing", cli_json_text(missing));
    json_object_set_new(root, "bench", bench ? json_pack("[O]", bench) : json_array());
    json_object_set_new(root, "valid", json_boolean(code == CLI_PASSED));
    json_dumpf(root, stdout, JSON_INDENT(1));
    printf("\n");
    json_decref(root);
    return code;
}

static void print_conclusion(const char *missing, int code) {
    if (missing[0])
        printf("nothing was validated: %s\n", missing);
    cli_tint_word(stdout, code == CLI_PASSED, code == CLI_PASSED ? "VALID" : "NOT VALID");
    putchar('\n');
}

static int validate(validate_options *o, const cli_items *items) {
    cli_backends backends;
    cli_verdicts verdicts = {0};
    json_t *bench = NULL;
    char missing[512];
    moe_status status = cli_backends_choose(&o->backends, &o->isolation, &backends);
    if (status)
        return cli_exit_code(status);
    find_missing(o, &backends, missing, sizeof missing);
    int code = missing[0] ? CLI_NOT_RUN : check_backends(o, &backends, items, &verdicts);
    if (code == CLI_PASSED)
        code = bench_preferred(o, &backends, &verdicts, &bench);
    if (o->output == CLI_JSON)
        code = print_json(&verdicts, bench, missing, code);
    else
        print_conclusion(missing, code);
    code = cli_html_write(&o->html, &verdicts, code);
    json_decref(bench);
    cli_verdicts_destroy(&verdicts);
    cli_backends_destroy(&backends);
    return code;
}

static int run(validate_options *o) {
    int code = cli_timing_check(&o->timing);
    if (code < 0)
        code = cli_html_check(&o->html);
    if (code >= 0)
        return code;
    cli_items items;
    moe_status status = cli_select(&o->selection, &items);
    if (status)
        return cli_exit_code(status);
    code = validate(o, &items);
    cli_items_destroy(&items);
    return code;
}

int cli_validate(int argc, char **argv) {
    validate_options o = {.selection = {.layer = CLI_FIRST_LAYER},
                          .timing = {.repeats = 7},
                          .html = {.argc = argc, .argv = argv}};
    const cli_option options[] = {
        CLI_BACKENDS_OPTION(o.backends,
                            "what to validate (default: every usable one); the first is "
                            "timed; may be repeated"),
        CLI_SELECTION_OPTIONS(o.selection),
        CLI_TIMING_OPTIONS(o.timing),
        CLI_THREADS_OPTION(o.threads),
        CLI_ISOLATION_OPTIONS(o.isolation),
        CLI_OUTPUT_OPTION(o.output, "text|json"),
        CLI_HTML_OPTION(o.html),
        {0}};
    int code = cli_parse(argc, argv,
                         "Checks backends against golden layers made by other people's code and "
                         "against the edge cases, then\ntimes the first of them on a layer of "
                         "its own, whatever --case checks, and holds the times against a roofline "
                         "measured on its device. Exit code 3 where there was "
                         "nothing to validate: no backend but the reference, no golden files.",
                         options, CLI_CASE_HELP, NULL);
    if (code < 0)
        code = run(&o);
    cli_html_destroy(&o.html);
    cli_strings_destroy(&o.backends);
    cli_selection_destroy(&o.selection);
    return code;
}
