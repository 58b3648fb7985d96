/* Batch invariance: a token's results have the same bits whatever batch it is in. */
#include "check/invariance/arrange.h"
#include "check/subject/run.h"
#include "layer/traits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct trial {
    moe_backend *backend;
    const moe_problem *problem;
    moe_invariance *found;
    const moe_plan *plan; /* given to the backend; NULL: it routes */
    int64_t pool;
    moe_int_run first;    /* of the first arrangement */
    moe_plan *first_plan; /* which was given for it */
} trial;

/* Appends to a text that is cut where it is full. */
static void append(char *text, size_t size, const char *more) {
    const size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s", used ? ", " : "", more);
}

static void describe(const trial *k, const moe_int_arrangement *a, char *ret, size_t size) {
    snprintf(ret, size, "%s %s T=%lld", k->plan ? "given plan" : "router", a->name,
             (long long)a->tokens);
}

/* A call or a fetch failed; the first one is told. */
static void stop(const trial *k, moe_verdict verdict, const char *why) {
    if (k->found->verdict >= MOE_VERDICT_FAIL)
        return;
    k->found->verdict = verdict;
    snprintf(k->found->why, sizeof k->found->why, "%s", why);
}

/* What comes first in memory is what is told; the largest is kept of all. Row `at` of `got` against
 * row `from` of `want`. */
static bool same_row(const trial *k, const char *where, moe_tensor_id id, const moe_tensor *got,
                     int64_t at, const moe_tensor *want, int64_t from, int64_t token) {
    const int64_t width = got->ndim > 1 ? got->shape[1] : 1;
    const size_t size = moe_dtype_size(got->dtype), bytes = size * (size_t)width;
    const char *a = (const char *)got->data + (size_t)at * bytes;
    const char *b = (const char *)want->data + (size_t)from * bytes;
    moe_invariance *v = k->found;
    if (memcmp(a, b, bytes) == 0)
        return true;
    for (int64_t i = 0; i < width; i++) {
        if (memcmp(a + (size_t)i * size, b + (size_t)i * size, size) == 0)
            continue;
        const double x = moe_load(a, got->dtype, (size_t)i),
                     y = moe_load(b, want->dtype, (size_t)i);
        v->largest = fmax(v->largest, fabs(x - y));
        if (v->tensor[0])
            continue;
        snprintf(v->tensor, sizeof v->tensor, "%s", moe_tensor_name(id));
        snprintf(v->arrangement, sizeof v->arrangement, "%s", where);
        v->token = token;
        v->element = i;
        v->got = x;
        v->want = y;
    }
    return false;
}

/* dS has a row for each pair; a token's are in ascending expert order in both plans. */
static bool same_pairs(const trial *k, const char *where, const moe_problem *p,
                       const moe_int_run *run, int64_t i, int64_t token) {
    const moe_plan *a = p->plan, *b = k->first_plan;
    const moe_tensor *got = &run->first[MOE_T_DS].tensor;
    const moe_tensor *want = &k->first.first[MOE_T_DS].tensor;
    bool same = true;
    for (int64_t s = 0; got->data && s < a->token_offsets[i + 1] - a->token_offsets[i]; s++) {
        const int64_t at = a->pair_of_token[a->token_offsets[i] + s];
        const int64_t from = b->pair_of_token[b->token_offsets[token] + s];
        if (at < got->shape[0] && from < want->shape[0])
            same = same_row(k, where, MOE_T_DS, got, at, want, from, token) && same;
    }
    return same;
}

static void compare(const trial *k, const moe_int_arrangement *a, const moe_problem *p,
                    const moe_int_run *run) {
    static const moe_tensor_id of_tokens[] = {MOE_T_O, MOE_T_DX};
    char where[sizeof k->found->arrangement];
    bool same = true;
    describe(k, a, where, sizeof where);
    for (int64_t i = 0; i < a->tokens; i++) {
        const int64_t token = a->at(i, a->tokens, k->pool);
        for (size_t t = 0; t < sizeof of_tokens / sizeof *of_tokens; t++) {
            const moe_tensor *got = &run->first[of_tokens[t]].tensor;
            if (got->data)
                same = same_row(k, where, of_tokens[t], got, i,
                                &k->first.first[of_tokens[t]].tensor, token, token) &&
                       same;
        }
        if (p->plan)
            same = same_pairs(k, where, p, run, i, token) && same;
    }
    k->found->arrangements++;
    if (same)
        append(k->found->agree, sizeof k->found->agree, where);
    else
        append(k->found->differ, sizeof k->found->differ, where);
}

/* Runs one arrangement in a layer of its own. False: there are no results. */
static bool run_one(const trial *k, const moe_problem *p, moe_int_run *ret) {
    const moe_use use = {p->T, p->dtype, p->pass, p->plan != NULL};
    moe_support support = {0};
    moe_layer *layer = NULL;
    moe_check_result *scratch = calloc(1, sizeof *scratch);
    moe_status status =
        scratch ? moe_backend_supports(k->backend, &p->layer, &use, &support) : MOE_E_NOMEM;
    if (!status)
        k->found->promised =
            k->found->promised && support.deterministic & MOE_PROMISE_BATCH_INVARIANT;
    if (!status)
        status = moe_layer_prepare(k->backend, &p->layer, &use, &p->in, &layer);
    bool done = !status && moe_int_run_on(k->backend, layer, &support, p, scratch, ret);
    if (status)
        stop(k, status == MOE_E_UNSUPPORTED ? MOE_VERDICT_SKIP : MOE_VERDICT_ERROR,
             support.reason[0] ? support.reason : moe_status_str(status));
    else if (scratch->verdict >= MOE_VERDICT_FAIL)
        stop(k, scratch->verdict, scratch->why);
    moe_layer_destroy(&layer);
    ret->layer = NULL;
    moe_check_result_destroy(&scratch);
    return done;
}

static bool try_one(trial *k, const moe_int_arrangement *a) {
    moe_problem p;
    moe_int_run run = {.layer = NULL};
    if (moe_int_arrange(k->problem, a, k->pool, k->plan, &p)) {
        stop(k, MOE_VERDICT_ERROR, "no memory for a batch");
        return false;
    }
    bool done = run_one(k, &p, &run);
    if (a == moe_int_arrangements) {
        k->first = run;
        k->first_plan = p.plan;
        p.plan = NULL;
        run = (moe_int_run){.layer = NULL};
        moe_problem view = p;
        view.plan = k->first_plan;
        if (done)
            compare(k, a, &view, &k->first); /* equal tokens of one batch */
    } else if (done)
        compare(k, a, &p, &run);
    moe_int_run_clear(&run);
    moe_int_arrange_end(&p);
    return done;
}

/* *ret_plan (unless NULL) is what the backend chose for the first arrangement; NULL: not told. */
static void try_all(trial *k, moe_plan **ret_plan) {
    bool go_on = true;
    for (int i = 0; go_on && i < moe_int_arrangement_count; i++)
        go_on = try_one(k, &moe_int_arrangements[i]);
    if (ret_plan) {
        *ret_plan = k->first.plan;
        k->first.plan = NULL;
    }
    moe_int_run_clear(&k->first);
    moe_plan_destroy(&k->first_plan);
}

static void conclude(moe_invariance *v) {
    if (v->verdict >= MOE_VERDICT_FAIL)
        return;
    if (v->arrangements == 0) {
        v->verdict = MOE_VERDICT_SKIP;
    } else if (!v->tensor[0]) {
        v->verdict = MOE_VERDICT_PASS;
        snprintf(v->why, sizeof v->why,
                 "a token has the same bits in %d batches of 1 to %d tokens%s",
                 (int)v->arrangements, MOE_INT_POOL, v->promised ? "" : ", which is not promised");
    } else {
        v->verdict = v->promised ? MOE_VERDICT_FAIL : MOE_VERDICT_SKIP;
        snprintf(v->why, sizeof v->why,
                 "%s: %s[%lld, %lld] is %.9g in \"%s\" and %.9g in T=%d; differences up to %.2e",
                 v->promised ? "not batch invariant, as it promises"
                             : "does not promise it, differs",
                 v->tensor, (long long)v->token, (long long)v->element, v->got, v->arrangement,
                 v->want, MOE_INT_POOL, v->largest);
    }
}

void moe_check_invariance(moe_backend *backend, const moe_problem *problem, moe_invariance *ret) {
    *ret = (moe_invariance){.asked = true, .promised = true};
    trial k = {.backend = backend,
               .problem = problem,
               .found = ret,
               .pool = problem->T < MOE_INT_POOL ? problem->T : MOE_INT_POOL};
    moe_plan *chosen = NULL;
    if (!problem->plan && moe_int_select_rules[problem->layer.router.select].other_tokens)
        stop(&k, MOE_VERDICT_SKIP, "not applicable: this router looks at all tokens at once");
    else if (!problem->plan)
        try_all(&k, &chosen);
    k.plan = problem->plan ? problem->plan : chosen;
    if (k.plan && ret->verdict < MOE_VERDICT_FAIL)
        try_all(&k, NULL);
    moe_plan_destroy(&chosen);
    conclude(ret);
}
