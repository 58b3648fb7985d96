#include "cli/input/judging.h"
#include "cli/input/devices.h"
#include "cli/input/messages.h"
#include "cli/input/mistrust.h"
#include "cli/input/patience.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

moe_status cli_verdicts_add(cli_verdicts *verdicts, moe_check_result *result) {
    moe_check_result **at = realloc(verdicts->at, (verdicts->count + 1) * sizeof *at);
    if (!at)
        return MOE_E_NOMEM;
    verdicts->at = at;
    at[verdicts->count++] = result;
    verdicts->tally[result->verdict]++;
    return MOE_OK;
}

void cli_verdicts_destroy(cli_verdicts *verdicts) {
    for (size_t i = 0; i < verdicts->count; i++)
        moe_check_result_destroy(&verdicts->at[i]);
    free(verdicts->at);
    *verdicts = (cli_verdicts){0};
}

int cli_verdicts_exit_code(const cli_verdicts *verdicts, size_t first) {
    int worst = CLI_PASSED;
    size_t skipped = 0;
    for (size_t i = first; i < verdicts->count; i++) {
        moe_verdict v = verdicts->at[i]->verdict;
        int code = v == MOE_VERDICT_ERROR                                 ? CLI_NOT_RUN
                   : v == MOE_VERDICT_FAIL || v == MOE_VERDICT_MISTRUSTED ? CLI_FAILED
                                                                          : CLI_PASSED;
        skipped += v == MOE_VERDICT_SKIP;
        if (code > worst)
            worst = code;
    }
    if (skipped && skipped == verdicts->count - first)
        return cli_usage("%s was not checked: it supports none of the %zu selected cases",
                         verdicts->at[first]->backend, skipped);
    return worst;
}

/* A pass on a case of the list is none. */
static moe_status mistrust(moe_backend *backend, const cli_selection *selection,
                           const moe_problem *p, moe_check_result *result) {
    const moe_use use = {p->T, p->dtype, p->pass, p->plan != NULL};
    moe_support support = {0};
    moe_status status = moe_backend_supports(backend, &p->layer, &use, &support);
    if (status == MOE_E_UNSUPPORTED)
        return MOE_OK;
    return status ? status
                  : cli_mistrust_apply(selection->mistrust, (moe_dtype)support.arithmetic, result);
}

/* Over ranks where the problem asks for them. */
static moe_status judge_problem(cli_devices *d, const cli_selection *selection,
                                const moe_problem *problem, const moe_check_params *params,
                                moe_check_result **ret) {
    moe_ep_params ep;
    if (!problem->split.ranks)
        return moe_check_backend(d->at[0], problem, params, cli_log(), ret);
    moe_status status = cli_devices_open_ranks(d, &selection->ranks, problem, &ep);
    return status ? status : moe_check_ranks(d->at, d->count, &ep, problem, params, cli_log(), ret);
}

bool cli_is_own(const cli_item *item) {
    return strchr("ci", item->kind) != NULL;
}

void cli_tell(void *user, const char *phase, int64_t done, int64_t of) {
    cli_telling *t = user;
    const int percent = of > 0 ? (int)(100 * done / of) : 0;
    if (t->phase == phase && t->percent == percent)
        return;
    t->phase = phase;
    t->percent = percent;
    char share[16] = "";
    if (of > 0)
        snprintf(share, sizeof share, " %d %%", percent);
    cli_progress("case %zu of %zu, %s%s: %s, %s", t->number, t->of, phase, share, t->spec,
                 t->name); /* what changes comes first: a long path may cut off the rest */
}

static moe_status judge_item(cli_devices *d, const cli_selection *selection, const cli_item *item,
                             const moe_check_params *params, cli_verdicts *verdicts) {
    moe_problem *problem = NULL;
    moe_check_result *result = NULL;
    moe_check_params of_item = *params;
    of_item.must_decide = item->must_decide;
    of_item.coverage |= cli_is_own(item);
    if (item->kind == 'p' && !params->sample_above_flops) /* float64 gradients fit no piece */
        of_item.sample_above_flops = 1;
    moe_status status = cli_problem(selection, item, &problem);
    if (!status)
        status = judge_problem(d, selection, problem, &of_item, &result);
    if (!status && selection->mistrust)
        status = mistrust(d->at[0], selection, problem, result);
    if (!status)
        status = cli_verdicts_add(verdicts, result);
    if (status)
        moe_check_result_destroy(&result);
    moe_problem_destroy(&problem);
    return status;
}

int cli_judge_backend(const cli_backends *backends, const char *spec,
                      const cli_selection *selection, const cli_items *items,
                      const moe_check_params *params, cli_verdict_fn each, void *user,
                      cli_verdicts *verdicts) {
    cli_telling of_case = {.spec = spec, .of = items->count};
    const moe_progress progress = {cli_tell, &of_case};
    cli_devices d = {.all = backends->all,
                     .spec = spec,
                     .params = {.threads = params->threads, .log = cli_log()}};
    size_t first = verdicts->count;
    moe_check_params as_named = *params;
    as_named.spec = spec;
    as_named.progress = &progress;
    as_named.backends = backends->all;
    cli_patience patience;
    moe_status status = cli_devices_open(&d, 1);
    int code = cli_exit_code(status);
    for (size_t i = 0; !status && i < items->count && !cli_interrupted(); i++) {
        of_case.name = items->at[i].name;
        of_case.number = i + 1;
        cli_progress("case %zu of %zu: %s, %s", i + 1, items->count, spec, items->at[i].name);
        cli_patience_begin(&patience, backends->timeout_s);
        as_named.waiting = &patience.waiting;
        moe_status judged = judge_item(&d, selection, &items->at[i], &as_named, verdicts);
        cli_patience_end(&patience);
        cli_progress_clear();
        if (judged && cli_exit_code(judged) > code)
            code = cli_exit_code(judged);
        if (!judged && each)
            each(user, verdicts->at[verdicts->count - 1]);
    }
    if (!status && cli_interrupted() && cli_progress_is_shown() &&
        verdicts->count - first < items->count)
        cli_note("interrupted: %zu of %zu cases were not run",
                 items->count - (verdicts->count - first), items->count);
    moe_status closed = cli_devices_close(&d);
    if (closed && cli_exit_code(closed) > code)
        code = cli_exit_code(closed);
    int judged_code = status ? code : cli_verdicts_exit_code(verdicts, first);
    return code > judged_code ? code : judged_code;
}
