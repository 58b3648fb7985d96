/* moeref selftest: faults planted in a backend, and what the judge says of each. */
#include "cli/input/messages.h"
#include "cli/input/select.h"
#include "cli/report/kills.h"
#include "cli/verbs/verbs.h"
#include "moeref/home.h"
#include "moeref/suite.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS = 3 }; /* runs of each check: some faults begin with the third */

typedef struct selftest_options {
    cli_strings dtypes, faults;
    cli_selection selection;
    cli_output output;
    int64_t threads;
    const char *mistrust; /* a file to write */
    bool full, quick, list, on_suite;
} selftest_options;

typedef struct selftest {
    const selftest_options *o;
    moe_backends *all;
    char plugin[PATH_MAX];
    cli_kills kills;
} selftest;

/* Is it a fault that only other batches show? */
static bool is_of_batches(const char *name) {
    size_t count;
    const moe_fault *all = moe_faults(&count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(all[i].name, name) == 0)
            return strcmp(all[i].group, "invariance") == 0;
    return false;
}

static moe_status open_copy(selftest *s, moe_dtype dtype, const char *fault, char *spec,
                            size_t size, moe_backend **ret) {
    const moe_open_params open = {.threads = (int32_t)s->o->threads, .log = cli_log()};
    snprintf(spec, size, "%s:%s%s%s", s->plugin, moe_dtype_name(dtype), *fault ? "." : "", fault);
    return moe_backend_open(s->all, spec, &open, cli_log(), ret);
}

/* The verdict on the copy with this fault; "": with none. */
static moe_status judge(selftest *s, moe_dtype dtype, const char *fault, const char *line,
                        moe_check_result **ret) {
    char spec[PATH_MAX + 64];
    const cli_item item = {.name = (char *)line, .kind = 'c'};
    moe_backend *backend = NULL;
    moe_problem *problem = NULL;
    const moe_check_params params = {.threads = (int32_t)s->o->threads,
                                     .repeats = REPEATS,
                                     .spec = spec,
                                     .invariance = is_of_batches(fault)};
    moe_status status = cli_problem(&s->o->selection, &item, &problem);
    if (!status)
        status = open_copy(s, dtype, fault, spec, sizeof spec, &backend);
    if (!status)
        status = moe_check_backend(backend, problem, &params, cli_log(), ret);
    moe_backend_close(&backend);
    moe_problem_destroy(&problem);
    return status;
}

static moe_status try_fault(selftest *s, const moe_fault *fault, moe_dtype dtype,
                            const char *line) {
    moe_check_result *result = NULL;
    cli_progress("%s.%s on %s", moe_dtype_name(dtype), fault->name, line);
    moe_status status = judge(s, dtype, fault->name, line, &result);
    cli_progress_clear();
    if (!status)
        status = cli_kills_add(&s->kills, fault, dtype, line, result);
    moe_check_result_destroy(&result);
    return status;
}

/* The copy without a fault must pass where faults are tried: else they are caught for nothing. */
static moe_status try_right(selftest *s, moe_dtype dtype, const char *line) {
    moe_check_result *result = NULL;
    moe_status status = judge(s, dtype, "", line, &result);
    if (!status && result->verdict > MOE_VERDICT_AMBIGUOUS)
        status = cli_kills_blame(&s->kills, dtype, line, result);
    moe_check_result_destroy(&result);
    return status;
}

/* Has the right copy been tried there, with an earlier fault? */
static bool is_known(const selftest *s, moe_dtype dtype, const char *line) {
    for (size_t i = 0; i < s->kills.count; i++)
        if (s->kills.at[i].dtype == dtype && strcmp(s->kills.at[i].line, line) == 0)
            return true;
    return false;
}

static moe_status try_on(selftest *s, const moe_fault *fault, moe_dtype dtype, const char *line) {
    moe_status status = is_known(s, dtype, line) ? MOE_OK : try_right(s, dtype, line);
    if (!status)
        status = try_fault(s, fault, dtype, line);
    if (!status && s->o->output == CLI_TEXT)
        cli_kill_text(stdout, &s->kills, s->kills.count - 1);
    fflush(stdout);
    return status;
}

/* The suite's cases until one catches it; the last one tried is what the table shows. */
static moe_status try_on_suite(selftest *s, const moe_fault *fault, moe_dtype dtype) {
    size_t count;
    const char *const *line = moe_suite(&count);
    moe_status status = MOE_OK;
    for (size_t i = 0; !status && i < count; i++) {
        status = try_fault(s, fault, dtype, line[i]);
        if (status || s->kills.at[s->kills.count - 1].kill.caught)
            break;
        if (i + 1 < count)
            cli_kills_drop_last(&s->kills);
    }
    if (!status && s->o->output == CLI_TEXT)
        cli_kill_text(stdout, &s->kills, s->kills.count - 1);
    fflush(stdout);
    return status;
}

static bool is_named(const cli_strings *names, const char *name) {
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->at[i], name) == 0)
            return true;
    return names->count == 0;
}

static const moe_dtype types[] = {MOE_F32, MOE_BF16, MOE_F16};
enum { TYPES = sizeof types / sizeof *types };

/* In quick form fault i is tried in one of the arithmetics in which it is one, in turn. */
static bool is_due(const selftest_options *o, const moe_fault *fault, size_t i, moe_dtype dtype) {
    moe_dtype due[TYPES];
    size_t count = 0;
    if (!is_named(&o->faults, fault->name) || !is_named(&o->dtypes, moe_dtype_name(dtype)))
        return false;
    for (size_t k = 0; k < TYPES; k++)
        if (moe_fault_applies(fault, types[k]))
            due[count++] = types[k];
    return moe_fault_applies(fault, dtype) && (!o->quick || (count && due[i % count] == dtype));
}

static moe_status try_everywhere(selftest *s, const moe_fault *fault, moe_dtype dtype) {
    char line[256];
    moe_fault_line(fault, dtype, false, line, sizeof line);
    moe_status status = try_on(s, fault, dtype, line);
    if (!status && s->o->full) {
        moe_fault_line(fault, dtype, true, line, sizeof line);
        status = try_on(s, fault, dtype, line);
        if (!status)
            status = try_on_suite(s, fault, dtype);
    }
    return status;
}

static moe_status try_all(selftest *s) {
    size_t count;
    const moe_fault *fault = moe_faults(&count);
    moe_status status = MOE_OK;
    for (size_t i = 0; !status && i < count; i++)
        for (size_t k = 0; !status && k < TYPES; k++)
            if (is_due(s->o, &fault[i], i, types[k]))
                status = try_everywhere(s, &fault[i], types[k]);
    return status;
}

/* Faults of buffers and inputs show on any case, and spoil it. */
static bool is_about_results(const moe_fault *fault) {
    return strcmp(fault->group, "memory") != 0;
}

/* A fault on a case that was not made for it: tried where it changes a result. */
static moe_status try_touching(selftest *s, const moe_problem *problem, moe_backend *right,
                               const moe_fault *fault, moe_dtype dtype) {
    char spec[PATH_MAX + 64];
    bool differs = false;
    moe_backend *backend = NULL;
    moe_check_result *result = NULL;
    const moe_check_params params = {
        .threads = (int32_t)s->o->threads, .repeats = REPEATS, .spec = spec};
    cli_progress("%s.%s on %s", moe_dtype_name(dtype), fault->name, problem->name);
    moe_status status = open_copy(s, dtype, fault->name, spec, sizeof spec, &backend);
    if (!status)
        status = moe_selftest_differs(right, backend, problem, &differs);
    if (!status && differs)
        status = moe_check_backend(backend, problem, &params, cli_log(), &result);
    cli_progress_clear();
    if (!status && differs)
        status = cli_kills_add(&s->kills, fault, dtype, problem->name, result);
    if (!status && differs && s->o->output == CLI_TEXT && !cli_kills_last_is_caught(&s->kills))
        cli_kill_text(stdout, &s->kills, s->kills.count - 1);
    moe_check_result_destroy(&result);
    moe_backend_close(&backend);
    return status;
}

static moe_status try_case(selftest *s, const cli_item *item, moe_dtype dtype) {
    size_t count;
    const moe_fault *fault = moe_faults(&count);
    char spec[PATH_MAX + 64];
    moe_problem *problem = NULL;
    moe_backend *right = NULL;
    moe_status status = cli_problem(&s->o->selection, item, &problem);
    if (!status)
        status = open_copy(s, dtype, "", spec, sizeof spec, &right);
    for (size_t i = 0; !status && i < count; i++)
        if (is_due(s->o, &fault[i], i, dtype) && is_about_results(&fault[i]))
            status = try_touching(s, problem, right, &fault[i], dtype);
    moe_backend_close(&right);
    moe_problem_destroy(&problem);
    return status;
}

/* Every fault on cases of the user's, or of the suite. */
static moe_status try_cases(selftest *s) {
    cli_items items;
    moe_status status = cli_select(&s->o->selection, &items);
    for (size_t i = 0; !status && i < items.count; i++)
        for (size_t k = 0; !status && k < TYPES; k++)
            if (is_named(&s->o->dtypes, moe_dtype_name(types[k])))
                status = try_case(s, &items.at[i], types[k]);
    if (!status && s->o->mistrust)
        status = cli_kills_mistrust(&s->kills, s->o->mistrust);
    cli_items_destroy(&items);
    return status;
}

static bool has_cases(const selftest_options *o) {
    const cli_selection *s = &o->selection;
    return o->on_suite || s->cases.count || s->list || s->hf.count || s->config;
}

static int report(const selftest *s) {
    if (s->o->output == CLI_JSON) {
        json_t *root = cli_kills_json(&s->kills);
        json_dumpf(root, stdout, JSON_INDENT(1));
        printf("\n");
        json_decref(root);
    } else {
        cli_kills_summary(stdout, &s->kills);
    }
    if (!s->kills.count)
        return cli_usage("no fault is named so; moeref selftest --list names all");
    return cli_kills_all(&s->kills) ? CLI_PASSED : CLI_FAILED;
}

static int list_faults(void) {
    size_t count;
    const moe_fault *fault = moe_faults(&count);
    for (size_t i = 0; i < count; i++)
        printf("  %-24s %-11s %s\n", fault[i].name, fault[i].group, fault[i].what);
    return CLI_PASSED;
}

static int run(const selftest_options *o) {
    selftest s = {.o = o};
    moe_dtype dtype;
    if (o->list)
        return list_faults();
    if (o->output == CLI_CSV)
        return cli_usage("moeref selftest prints text or json");
    if (o->mistrust && !has_cases(o))
        return cli_usage("--mistrust lists cases: give --case, --cases, --hf or --on-suite");
    for (size_t i = 0; i < o->dtypes.count; i++)
        if (moe_dtype_parse(o->dtypes.at[i], &dtype) || dtype == MOE_F64 || dtype > MOE_BF16)
            return cli_usage("--dtype is fp32, bf16 or fp16, not '%s'", o->dtypes.at[i]);
    moe_status status = moe_home_find(MOE_HOME_FAULTY, NULL, cli_log(), s.plugin, sizeof s.plugin);
    if (!status)
        status = moe_backends_load(NULL, cli_log(), &s.all);
    if (!status)
        status = has_cases(o) ? try_cases(&s) : try_all(&s);
    int code = status ? cli_exit_code(status) : report(&s);
    cli_kills_destroy(&s.kills);
    moe_backends_destroy(&s.all);
    return code;
}

static const char more[] =
    "A line for each fault: named (caught, and the report says why), caught, or SURVIVED; the\n"
    "hypothesis that explains it; the first reason of the report. Exit code 1 if a fault survives\n"
    "or if the copy without a fault fails.\n\n"
    "A fault is also a variant of a backend, whose whole report can be read:\n"
    "  moeref check --backend .../faulty.so:bf16.renorm_missing --case \"T=64 ... renorm=1\"\n";

int cli_selftest(int argc, char **argv) {
    selftest_options o = {.selection = {.layer = -1}};
    const cli_option options[] = {
        {"dtype", CLI_STRINGS, &o.dtypes, "TYPE",
         "fp32, bf16 or fp16 (default: all); may be repeated"},
        {"fault", CLI_STRINGS, &o.faults, "NAME", "only this one; may be repeated"},
        {"list", CLI_FLAG, &o.list, NULL, "print the faults and stop"},
        {"quick", CLI_FLAG, &o.quick, NULL, "each fault in one type, in turn"},
        {"full", CLI_FLAG, &o.full, NULL,
         "each fault at the size of a real layer too, and on the suite"},
        CLI_SELECTION_OPTIONS(o.selection),
        {"on-suite", CLI_FLAG, &o.on_suite, NULL,
         "every fault on every case of the suite that it changes a result of, and not on the "
         "layers made for it; so do --case, --cases, --hf and --config"},
        {"mistrust", CLI_STRING, &o.mistrust, "FILE",
         "with those: list the cases that cannot show a fault, for check --mistrust FILE"},
        CLI_THREADS_OPTION(o.threads),
        CLI_OUTPUT_OPTION(o.output, "text|json"),
        {0}};
    int code = cli_parse(argc, argv,
                         "Judges the judge: plants faults in a backend that is right without them, "
                         "one at a time, each on a small\nlayer that shows it, and tells which "
                         "were noticed and whether the report named the cause.",
                         options, more, NULL);
    if (code < 0)
        code = run(&o);
    cli_strings_destroy(&o.dtypes);
    cli_strings_destroy(&o.faults);
    cli_selection_destroy(&o.selection);
    return code;
}
