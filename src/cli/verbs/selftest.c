/* moeref selftest: faults planted in a backend, and what the judge says of each. */
#include "cli/verbs/selftest.h"
#include "cli/input/messages.h"
#include "cli/input/nearest.h"
#include "cli/input/select.h"
#include "cli/verbs/verbs.h"
#include "moeref/home.h"
#include "moeref/suite.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_named(const cli_strings *names, const char *name) {
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->at[i], name) == 0)
            return true;
    return names->count == 0;
}

const moe_dtype cli_selftest_types[CLI_SELFTEST_TYPES] = {MOE_F32, MOE_BF16, MOE_F16};

/* In quick form fault i is tried in one of the arithmetics in which it is one, in turn. */
bool cli_selftest_due(const cli_selftest_options *o, const moe_fault *fault, size_t i,
                      moe_dtype dtype) {
    moe_dtype due[CLI_SELFTEST_TYPES];
    size_t count = 0;
    if (!is_named(&o->faults, fault->name) || !is_named(&o->dtypes, moe_dtype_name(dtype)) ||
        (o->sample > 1 && i % (size_t)o->sample != (size_t)o->sample / 2))
        return false;
    for (size_t k = 0; k < CLI_SELFTEST_TYPES; k++)
        if (moe_fault_applies(fault, cli_selftest_types[k]))
            due[count++] = cli_selftest_types[k];
    return moe_fault_applies(fault, dtype) && (!o->quick || (count && due[i % count] == dtype));
}

moe_status cli_selftest_open(const cli_selftest_run *s, moe_dtype dtype, const char *fault,
                             char *spec, size_t size, moe_backend **ret) {
    const moe_open_params open = {.threads = (int32_t)s->o->threads, .log = cli_log()};
    snprintf(spec, size, "%s:%s%s%s", s->plugin, moe_dtype_name(dtype), *fault ? "." : "", fault);
    return moe_backend_open(s->all, spec, &open, cli_log(), ret);
}

/* Faults that only other batches show. */
static bool is_of_batches(const moe_fault *fault) {
    return fault && strcmp(fault->group, "invariance") == 0;
}

/* The verdict on the copy with this fault; NULL: with none. */
static moe_status judge(cli_selftest_run *s, moe_dtype dtype, const moe_fault *fault,
                        const char *line, moe_check_result **ret) {
    char spec[PATH_MAX + 64];
    const cli_item item = {.name = (char *)line, .kind = 'c'};
    moe_backend *backend = NULL;
    moe_problem *problem = NULL;
    const moe_check_params params = {.threads = (int32_t)s->o->threads,
                                     .repeats = CLI_SELFTEST_REPEATS,
                                     .spec = spec,
                                     .recipe = fault ? moe_fault_recipe(fault) : NULL,
                                     .invariance = is_of_batches(fault)};
    moe_status status = cli_problem(&s->o->selection, &item, &problem);
    if (!status)
        status = cli_selftest_open(s, dtype, fault ? fault->name : "", spec, sizeof spec, &backend);
    if (!status)
        status = moe_check_backend(backend, problem, &params, cli_log(), ret);
    moe_backend_close(&backend);
    moe_problem_destroy(&problem);
    return status;
}

void cli_selftest_progress(const cli_selftest_run *s, const moe_fault *fault, moe_dtype dtype,
                           const char *line) {
    cli_progress("fault %lld of %lld, %s.%s on %s", (long long)s->at, (long long)s->of,
                 moe_dtype_name(dtype), fault->name, line);
}

static moe_status try_fault(cli_selftest_run *s, const moe_fault *fault, moe_dtype dtype,
                            const char *line) {
    moe_check_result *result = NULL;
    cli_selftest_progress(s, fault, dtype, line);
    moe_status status = judge(s, dtype, fault, line, &result);
    cli_progress_pause();
    if (!status)
        status = cli_kills_add(&s->kills, fault, dtype, line, result);
    moe_check_result_destroy(&result);
    return status;
}

/* The copy without a fault must pass where faults are tried: else they are caught for nothing. */
static moe_status try_right(cli_selftest_run *s, moe_dtype dtype, const char *line) {
    moe_check_result *result = NULL;
    moe_status status = judge(s, dtype, NULL, line, &result);
    if (!status && result->verdict > MOE_VERDICT_AMBIGUOUS)
        status = cli_kills_blame(&s->kills, dtype, line, result);
    moe_check_result_destroy(&result);
    return status;
}

/* Is the right copy tried on this fault's layer with an earlier fault, in whichever shard? */
static bool is_known(const cli_selftest_run *s, const moe_fault *fault, moe_dtype dtype) {
    size_t count;
    const moe_fault *all = moe_faults(&count);
    for (size_t i = 0; &all[i] < fault; i++)
        if (all[i].layer == fault->layer && cli_selftest_due(s->o, &all[i], i, dtype))
            return true;
    return false;
}

static moe_status try_on(cli_selftest_run *s, const moe_fault *fault, moe_dtype dtype,
                         const char *line) {
    moe_status status = is_known(s, fault, dtype) ? MOE_OK : try_right(s, dtype, line);
    if (!status)
        status = try_fault(s, fault, dtype, line);
    if (!status && s->o->output == CLI_TEXT)
        cli_kill_text(stdout, &s->kills, s->kills.count - 1);
    fflush(stdout);
    return status;
}

/* The suite's cases, from everywhere in it, until some have caught it. What the table shows is what
 * most elements of those stand for, as the report's last line has it. */
static moe_status try_on_suite(cli_selftest_run *s, const moe_fault *fault, moe_dtype dtype) {
    enum { CATCHES = 12, STEP = 89 }; /* a prime, which the number of cases is no multiple of */
    size_t count, first = s->kills.count;
    const char *const *line = moe_suite(&count);
    moe_status status = MOE_OK;
    int caught = 0;
    for (size_t i = 0; !status && caught < CATCHES && i < count; i++) {
        status = try_fault(s, fault, dtype, line[i * STEP % count]);
        if (status)
            break;
        caught += cli_kills_last_is_caught(&s->kills);
        if (!cli_kills_last_is_caught(&s->kills) && i + 1 < count)
            cli_kills_drop_last(&s->kills);
    }
    if (!status)
        cli_kills_vote(&s->kills, first);
    if (!status && s->o->output == CLI_TEXT)
        cli_kill_text(stdout, &s->kills, s->kills.count - 1);
    fflush(stdout);
    return status;
}

/* Where a fault is tried. */
typedef enum size_of { SIZE_SMALL, SIZE_REAL, SIZE_SUITE, SIZES } size_of;
static const char *const sizes[SIZES] = {"small", "real", "suite"};

static bool is_asked(const cli_selftest_options *o, size_of size) {
    if (o->full)
        return true;
    return o->sizes.count ? is_named(&o->sizes, sizes[size]) : size == SIZE_SMALL;
}

static moe_status try_everywhere(cli_selftest_run *s, const moe_fault *fault, moe_dtype dtype) {
    char line[256];
    moe_status status = MOE_OK;
    for (int size = SIZE_SMALL; !status && size <= SIZE_REAL; size++) {
        if (!is_asked(s->o, (size_of)size))
            continue;
        moe_fault_line(fault, dtype, size == SIZE_REAL, line, sizeof line);
        status = try_on(s, fault, dtype, line);
    }
    if (!status && is_asked(s->o, SIZE_SUITE))
        status = try_on_suite(s, fault, dtype);
    return status;
}

static int64_t count_due(const cli_selftest_run *s) {
    size_t count;
    const moe_fault *fault = moe_faults(&count);
    int64_t due = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < CLI_SELFTEST_TYPES; k++)
            due += cli_selftest_due(s->o, &fault[i], i, cli_selftest_types[k]);
    return due;
}

static moe_status try_all(cli_selftest_run *s) {
    size_t count;
    const moe_fault *fault = moe_faults(&count);
    moe_status status = MOE_OK;
    int64_t due = 0;
    s->of = (count_due(s) - s->shard + s->shards - 1) / s->shards;
    for (size_t i = 0; !status && i < count; i++)
        for (size_t k = 0; !status && k < CLI_SELFTEST_TYPES; k++) {
            if (!cli_selftest_due(s->o, &fault[i], i, cli_selftest_types[k]) ||
                due++ % s->shards != s->shard)
                continue;
            s->at++;
            status = try_everywhere(s, &fault[i], cli_selftest_types[k]);
        }
    cli_progress_clear();
    return status;
}

static bool has_cases(const cli_selftest_options *o) {
    return o->on_suite || !cli_selects_nothing(&o->selection);
}

static int report(const cli_selftest_run *s) {
    if (s->o->output == CLI_JSON) {
        json_t *root = cli_kills_json(&s->kills);
        json_dumpf(root, stdout, JSON_INDENT(1));
        printf("\n");
        json_decref(root);
    } else {
        cli_kills_summary(stdout, &s->kills);
    }
    if (!s->kills.count && s->shards == 1)
        return cli_usage("no fault was tried: none that is asked for is of these types and sizes");
    return cli_kills_all(&s->kills) ? CLI_PASSED : CLI_FAILED;
}

static int list_faults(void) {
    size_t count;
    const moe_fault *fault = moe_faults(&count);
    for (size_t i = 0; i < count; i++)
        printf("  %-24s %-11s %s\n", fault[i].name, fault[i].group, fault[i].what);
    return CLI_PASSED;
}

static bool is_size(const char *name) {
    for (int i = 0; i < SIZES; i++)
        if (strcmp(sizes[i], name) == 0)
            return true;
    return false;
}

/* --shard I/N. */
static bool read_shard(cli_selftest_run *s, const char *text) {
    int end = 0;
    s->shard = 0;
    s->shards = 1;
    if (!text)
        return true;
    return sscanf(text, "%9" SCNd64 "/%9" SCNd64 "%n", &s->shard, &s->shards, &end) == 2 &&
           !text[end] && s->shard >= 0 && s->shard < s->shards;
}

/* Are all of --fault in the table? Then -1, else an exit code after a sentence. */
static int need_faults(const cli_strings *named) {
    enum { MOST = 1024 };
    const char *names[MOST + 1] = {NULL};
    size_t count;
    const moe_fault *faults = moe_faults(&count);
    for (size_t i = 0; i < count && i < MOST; i++)
        names[i] = faults[i].name;
    for (size_t i = 0; i < named->count; i++) {
        size_t at = 0;
        while (at < count && strcmp(faults[at].name, named->at[i]) != 0)
            at++;
        if (at < count)
            continue;
        const char *near = cli_nearest(named->at[i], names);
        return cli_usage("there is no fault '%s'%s%s%s; moeref selftest --list names all",
                         named->at[i], near ? ", but '" : "", near ? near : "", near ? "'" : "");
    }
    return -1;
}

/* Layers that were made for faults, or cases of one's own: -1, or an exit code after a sentence. */
static int check_cases(const cli_selftest_options *o) {
    if (o->mistrust && !has_cases(o))
        return cli_usage("--mistrust lists cases: give --case, --cases, --hf or --on-suite");
    if (has_cases(o) && (o->full || o->sizes.count))
        return cli_usage("--size and --full are of the layers made for faults, not of your cases");
    if (o->on_suite && !cli_selects_nothing(&o->selection))
        return cli_usage("--on-suite is of the suite's cases: leave yours out, or it");
    if (o->selection.golden && !has_cases(o))
        return cli_usage("--golden is of cases: layers made for faults are held to the oracle");
    return cli_exit_code(cli_selection_check(&o->selection)) ? CLI_USAGE : -1;
}

static int run(const cli_selftest_options *o) {
    cli_selftest_run s = {.o = o};
    moe_dtype dtype;
    if (o->list && o->output == CLI_JSON)
        return cli_usage("--list prints text");
    if (o->list)
        return list_faults();
    const int wrong = check_cases(o);
    if (wrong >= 0)
        return wrong;
    if (!read_shard(&s, o->shard) || (o->shard && has_cases(o)))
        return cli_usage("--shard is I/N, 0/16 to 15/16, and not for cases of your own");
    for (size_t i = 0; i < o->dtypes.count; i++)
        if (moe_dtype_parse(o->dtypes.at[i], &dtype) || dtype == MOE_F64 || dtype > MOE_BF16)
            return cli_usage("--dtype is fp32, bf16 or fp16, not '%s'", o->dtypes.at[i]);
    for (size_t i = 0; i < o->sizes.count; i++)
        if (!is_size(o->sizes.at[i]))
            return cli_usage("--size is small, real or suite, not '%s'", o->sizes.at[i]);
    int code = need_faults(&o->faults);
    if (code >= 0)
        return code;
    moe_status status = moe_home_find(MOE_HOME_FAULTY, NULL, cli_log(), s.plugin, sizeof s.plugin);
    if (!status)
        status = moe_backends_load(NULL, cli_log(), &s.all);
    if (!status)
        status = has_cases(o) ? cli_selftest_cases(&s) : try_all(&s);
    code = status ? cli_exit_code(status) : report(&s);
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
    cli_selftest_options o = {.selection = {.layer = CLI_FIRST_LAYER}};
    const cli_option options[] = {
        {"dtype", CLI_STRINGS, &o.dtypes, "TYPE",
         "fp32, bf16 or fp16 (default: all); may be repeated"},
        {"fault", CLI_STRINGS, &o.faults, "NAME", "only this one; may be repeated"},
        {"list", CLI_FLAG, &o.list, NULL, "print the faults and stop"},
        {"quick", CLI_FLAG, &o.quick, NULL, "each fault in one type, in turn"},
        {"size", CLI_STRINGS, &o.sizes, "SIZE",
         "small: on the fault's own small layer (default); real: on one at the size of a real "
         "layer; suite: on the suite's cases until twelve have caught it; may be repeated"},
        {"full", CLI_FLAG, &o.full, NULL, "all three sizes"},
        {"sample", CLI_COUNT, &o.sample, "N", "one fault in N"},
        {"shard", CLI_STRING, &o.shard, "I/N",
         "part I, from 0, of N that together are the whole: a part for each process"},
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
    cli_strings_destroy(&o.sizes);
    cli_selection_destroy(&o.selection);
    return code;
}
