/* moeref selftest on cases that were not made for a fault: the user's, or the suite's. */
#include "cli/input/messages.h"
#include "cli/verbs/selftest.h"

#include <string.h>

/* Faults of buffers and inputs show on any case, and spoil it. */
static bool is_about_results(const moe_fault *fault) {
    return strcmp(fault->group, "memory") != 0;
}

/* A fault on a case that was not made for it: tried where it changes a result. */
static moe_status try_touching(cli_selftest_run *s, const moe_problem *problem, moe_backend *right,
                               const moe_fault *fault, moe_dtype dtype) {
    char spec[PATH_MAX + 64];
    bool differs = false;
    moe_backend *backend = NULL;
    moe_check_result *result = NULL;
    const moe_check_params params = {.threads = (int32_t)s->o->threads,
                                     .repeats = CLI_SELFTEST_REPEATS,
                                     .spec = spec,
                                     .recipe = moe_fault_recipe(fault)};
    s->at++;
    cli_selftest_progress(s, fault, dtype, problem->name);
    moe_status status = cli_selftest_open(s, dtype, fault->name, spec, sizeof spec, &backend);
    if (!status)
        status = moe_selftest_differs(right, backend, problem, &differs);
    if (!status && differs)
        status = moe_check_backend(backend, problem, &params, cli_log(), &result);
    cli_progress_pause();
    if (!status && differs)
        status = cli_kills_add(&s->kills, fault, dtype, problem->name, result);
    if (!status && differs && s->o->output == CLI_TEXT && !cli_kills_last_is_caught(&s->kills))
        cli_kill_text(stdout, &s->kills, s->kills.count - 1);
    moe_check_result_destroy(&result);
    moe_backend_close(&backend);
    return status;
}

static bool is_due(const cli_selftest_run *s, size_t i, moe_dtype dtype) {
    size_t count;
    const moe_fault *fault = moe_faults(&count);
    return cli_selftest_due(s->o, &fault[i], i, dtype) && is_about_results(&fault[i]);
}

static int64_t count_due(const cli_selftest_run *s) {
    size_t count;
    int64_t due = 0;
    moe_faults(&count);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < CLI_SELFTEST_TYPES; k++)
            due += is_due(s, i, cli_selftest_types[k]);
    return due;
}

static moe_status try_case(cli_selftest_run *s, const cli_item *item, moe_dtype dtype) {
    size_t count;
    const moe_fault *fault = moe_faults(&count);
    char spec[PATH_MAX + 64];
    moe_problem *problem = NULL;
    moe_backend *right = NULL;
    moe_status status = cli_problem(&s->o->selection, item, &problem);
    if (!status)
        status = cli_selftest_open(s, dtype, "", spec, sizeof spec, &right);
    for (size_t i = 0; !status && i < count; i++)
        if (is_due(s, i, dtype))
            status = try_touching(s, problem, right, &fault[i], dtype);
    moe_backend_close(&right);
    moe_problem_destroy(&problem);
    return status;
}

/* Every fault on cases of the user's, or of the suite. */
moe_status cli_selftest_cases(cli_selftest_run *s) {
    cli_items items;
    moe_status status = cli_select(&s->o->selection, &items);
    s->of = count_due(s) * (int64_t)items.count;
    for (size_t i = 0; !status && i < items.count; i++)
        for (size_t k = 0; !status && k < CLI_SELFTEST_TYPES; k++)
            status = try_case(s, &items.at[i], cli_selftest_types[k]);
    cli_progress_clear();
    if (!status && s->o->mistrust)
        status = cli_kills_mistrust(&s->kills, s->o->mistrust);
    cli_items_destroy(&items);
    return status;
}
