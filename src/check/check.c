/* Checking a backend: run it, judge what it gave, then say whether it repeated itself. */
#include "backend/front.h"
#include "check/block.h"
#include "check/bundle/bundle.h"
#include "check/explain/explain.h"
#include "check/judge.h"
#include "check/state/alike.h"
#include "check/state/leak.h"
#include "check/state/state.h"
#include "check/subject/run.h"
#include "check/trial.h"
#include "check/verdict/order.h"
#include "check/verdict/result.h"
#include "check/verdict/selector.h"
#include "core/clock.h"
#include "core/elements.h"
#include "core/flush.h"
#include "core/progress.h"
#include "reference/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_TIMINGS = 64, DEFAULT_REPEATS = 2, RUNS = 3 /* first, more, other inputs */ };

/* A backend on a problem, and what has become of it so far. */
typedef struct checking {
    moe_backend *backend;
    const moe_problem *problem;
    const moe_check_params *params;
    const moe_log *log;
    moe_int_run run;
    bool wrong;             /* at a glance: no other inputs need be tried */
    moe_int_truth glanced;  /* what was looked at then */
    moe_int_more_runs more; /* on other inputs */
    moe_check_result *result;
} checking;

static moe_status fetch_stage(void *user, moe_tensor_id id, moe_check_result *result,
                              moe_tensor *ret) {
    checking *k = user;
    return moe_int_run_stage(&k->run, k->problem, result, id, ret);
}

/* Views of what the run fetched. Weights come with the plan where the backend has no S of its own.
 */
static moe_tensors views(const moe_int_guarded *set, const moe_plan *plan) {
    moe_tensors out = {0};
    for (int id = 0; id < MOE_T_COUNT; id++)
        out.t[id] = set[id].tensor;
    if (plan && !out.t[MOE_T_S].data)
        out.t[MOE_T_S] = (moe_tensor){
            .data = plan->weight, .dtype = MOE_F64, .ndim = 1, .shape = {plan->n_pairs}};
    return out;
}

/* First element whose bits differ. */
static int64_t first_difference(const moe_tensor *a, const moe_tensor *b) {
    enum { CHUNK = 1 << 16 };
    size_t size = moe_dtype_size(a->dtype);
    int64_t count = moe_tensor_count(a), first = 0;
    while (count - first > CHUNK &&
           memcmp((const char *)a->data + (size_t)first * size,
                  (const char *)b->data + (size_t)first * size, CHUNK * size) == 0)
        first += CHUNK;
    for (int64_t i = first; i < count; i++)
        if (memcmp((const char *)a->data + (size_t)i * size,
                   (const char *)b->data + (size_t)i * size, size) != 0)
            return i;
    return 0;
}

static void fail_repeat(const moe_int_run *run, moe_tensor_id id, moe_check_result *r) {
    const moe_tensor *a = &run->first[id].tensor, *b = &run->later[id].tensor;
    const char *name = moe_tensor_name(id);
    moe_tensor_verdict *v = moe_int_result_entry(r, name);
    if (v->verdict == MOE_VERDICT_FAIL) {
        if (!moe_int_is_cause(&r->explanation) && moe_tensor_same_shape(a, b))
            moe_int_explain_repeat(id, a, b, r);
        return;
    }
    if (!moe_tensor_same_shape(a, b)) {
        moe_int_entry_fail(v, "another run gave another shape");
    } else {
        int64_t at = first_difference(a, b);
        v->worst_ndim = a->ndim;
        moe_int_unravel(a, at, v->worst_index);
        v->want = moe_load(a->data, a->dtype, (size_t)at);
        v->got = moe_load(b->data, b->dtype, (size_t)at);
        moe_int_explain_repeat(id, a, b, r);
        int times = moe_int_times(a, b);
        if (times > 0)
            moe_int_entry_fail(v, "run 2 = %d x run 1: it adds to what is there", times);
        moe_int_entry_fail(v, "not deterministic: another run%s gave %.9g instead of %.9g",
                           run->returned ? ", after another input," : "", v->got, v->want);
    }
    moe_int_result_set(r, MOE_VERDICT_FAIL, "%s: %s", name, v->why);
    if (!r->first_wrong_stage[0])
        snprintf(r->first_wrong_stage, sizeof r->first_wrong_stage, "%s", name);
}

/* A backend that calls itself deterministic must give the same bits again. */
static void judge_repeats(const moe_int_run *run, moe_check_result *r) {
    if (!run->support.deterministic)
        return;
    if (!run->same_plan) {
        moe_int_entry_fail(moe_int_result_entry(r, "topk_index"),
                           "not deterministic: another run chose other experts");
        moe_int_result_set(r, MOE_VERDICT_FAIL, "another run chose other experts");
    }
    for (size_t i = 0; i < moe_int_order_count; i++)
        if (!run->repeats[moe_int_order[i]])
            fail_repeat(run, moe_int_order[i], r);
}

/* What is timed under a name that no table holds has no FLOPs, bytes or prediction. The first such
 * name is told, after what is wrong with the results. */
static void judge_timings(const moe_int_run *run, moe_check_result *r) {
    moe_cost cost[MOST_TIMINGS];
    moe_stage stage;
    size_t count = moe_layer_timings(run->layer, cost, MOST_TIMINGS);
    for (size_t i = 0; i < count && i < MOST_TIMINGS; i++) {
        if (moe_stage_parse(cost[i].name, &stage))
            moe_int_result_set(r, MOE_VERDICT_FAIL,
                               "timings: \"%s\" is no stage; moeref list names them", cost[i].name);
    }
}

/* The run as it is judged. */
static moe_int_subject subject_of(const checking *k) {
    return (moe_int_subject){.problem = k->problem,
                             .arithmetic = (moe_dtype)k->run.support.arithmetic,
                             .got = views(k->run.first, k->run.plan),
                             .plan = k->run.plan};
}

/* Stages are to be had of the run while its layer lives. */
static moe_status judge(checking *k) {
    moe_int_subject subject = subject_of(k);
    subject.known = &k->glanced;
    subject.fetch = fetch_stage;
    subject.user = k;
    if (!k->run.support.deterministic && k->run.same_plan)
        subject.again[MOE_INT_LATER] = views(k->run.later, NULL);
    subject.drifts = !moe_int_run_repeats(&k->run);
    subject.declared = k->run.declared[0] ? k->run.declared : NULL;
    subject.stale = k->more.stale;
    subject.again[MOE_INT_SECOND] = views(k->more.set[MOE_INT_SECOND], NULL);
    subject.again[MOE_INT_POISONED] = views(k->more.set[MOE_INT_POISONED], NULL);
    return moe_int_judge(&subject, k->params, k->log, k->result);
}

/* What is no tensor of the layer's own. */
static moe_status judge_around(checking *k) {
    const moe_int_subject subject = subject_of(k);
    moe_status status = moe_int_judge_block(&subject, k->log, k->result);
    if (!status) {
        judge_repeats(&k->run, k->result);
        judge_timings(&k->run, k->result);
    }
    return status;
}

/* What judging the results did not find wrong, and so did not keep: that runs differ, buffers,
 * memory, calls. */
static void keep(checking *k) {
    moe_int_subject subject = subject_of(k);
    if (k->run.same_plan)
        subject.again[MOE_INT_LATER] = views(k->run.later, NULL);
    moe_int_bundle_write(&subject, NULL, true, k->params->dump_dir, k->log, k->result);
}

static moe_status glance(checking *k) {
    const moe_int_subject subject = subject_of(k);
    return moe_int_glance(&subject, k->params, k->log, &k->wrong, &k->glanced);
}

/* Threads that a plug-in in this process shares with the judge compute on for the judge: as it
 * wants them, and not as a plug-in or the caller left them. Returns how many were to be settled. */
static int settle_threads(const moe_backend *backend, int threads) {
    int flushing = 0;
    if (moe_int_backend_pid(backend) != getpid()) /* none is shared */
        return 0;
#pragma omp parallel num_threads(threads) reduction(+ : flushing)
    {
        flushing += moe_int_flushes();
        moe_int_flush_set(false);
    }
    return flushing;
}

static void judge_threads(const checking *k) {
    const int flushing = settle_threads(k->backend, moe_int_thread_count(k->params->threads));
    if (flushing > 0)
        moe_int_result_set(k->result, MOE_VERDICT_FAIL,
                           "%s left %d threads that take 0 for subnormal numbers",
                           moe_backend_name(k->backend), flushing);
}

/* Faults of slots that have no status, `release` the last of them, count like all others. */
static void judge_contract(const moe_backend *backend, moe_check_result *r) {
    const char *fault = moe_backend_fault(backend);
    if (fault[0])
        moe_int_result_set(r, MOE_VERDICT_FAIL, "%s: %s", moe_backend_name(backend), fault);
}

static void judge_invariance(moe_backend *backend, const moe_problem *problem,
                             moe_check_result *r) {
    moe_check_invariance(backend, problem, &r->invariance);
    if (r->invariance.verdict >= MOE_VERDICT_FAIL)
        moe_int_result_set(r, r->invariance.verdict, "%s", r->invariance.why);
}

/* A run that is known to be wrong is not made again, nor other inputs tried. */
static void run_more(checking *k) {
    const int repeats = k->params->repeats > 0 ? k->params->repeats : DEFAULT_REPEATS;
    moe_int_run_repeat(k->backend, k->problem, k->wrong ? 0 : repeats - 1, k->result, &k->run);
    if (!k->wrong && k->run.usable && moe_int_run_repeats(&k->run))
        moe_int_state_try(k->backend, k->problem, k->params, k->log, k->result, &k->run, &k->more);
}

/* A wrong run of which no cause is known may be one of those that come out differently every time.
 */
static void try_again(checking *k) {
    const moe_explanation *x = &k->result->explanation;
    if (k->params->no_explanation || x->ended || moe_int_is_cause(x))
        return;
    moe_int_run_repeat(k->backend, k->problem, 1, k->result, &k->run);
    if (k->run.usable)
        judge_repeats(&k->run, k->result);
}

/* What a run without a fault is tried on. */
static void try_rest(checking *k) {
    if (k->result->verdict < MOE_VERDICT_FAIL && !k->params->unwatched)
        moe_int_leak_try(k->backend, k->problem, k->params->repeats, k->result, &k->run);
    if (k->result->verdict < MOE_VERDICT_FAIL)
        moe_int_alike_try(k->backend, k->problem, k->log, k->result, &k->run);
}

/* All runs, and the verdict on them; the layer is gone after it. */
static moe_status run_and_judge(checking *k, bool *ret_kept) {
    const moe_progress *progress = k->params->progress;
    moe_status status = MOE_OK;
    moe_int_progress(progress, "run", 0, RUNS);
    moe_int_run_make(k->backend, k->problem, k->result, &k->run);
    k->result->arithmetic = (int32_t)k->run.support.arithmetic;
    judge_threads(k);
    if (k->run.usable)
        status = glance(k);
    moe_int_progress(progress, "run", 1, RUNS);
    if (!status)
        run_more(k);
    judge_threads(k);
    moe_int_backend_rest(k->backend);
    if (!status && k->run.usable)
        status = judge(k);
    *ret_kept = k->run.usable && k->result->verdict == MOE_VERDICT_FAIL;
    if (!status && k->run.usable)
        status = judge_around(k);
    if (!status && k->run.usable && k->wrong)
        try_again(k);
    moe_int_progress(progress, "run", 2, RUNS);
    if (!status && k->run.usable)
        try_rest(k);
    moe_int_truth_destroy(&k->glanced);
    moe_int_more_runs_destroy(&k->more);
    moe_layer_destroy(&k->run.layer);
    return status;
}

moe_status moe_check_backend(moe_backend *backend, const moe_problem *problem,
                             const moe_check_params *params, const moe_log *log,
                             moe_check_result **ret) {
    static const moe_check_params defaults;
    const double start_us = moe_int_now_us();
    const char *name = moe_backend_name(backend);
    checking k = {.backend = backend, .problem = problem, .log = log};
    k.params = params ? params : &defaults;
    moe_status status =
        moe_int_result_named(problem, name, "--backend", k.params->spec ? k.params->spec : name, -1,
                             k.params, log, &k.result);
    if (status)
        return status;
    moe_check_result *r = k.result;
    bool kept;
    snprintf(r->arithmetic_why, sizeof r->arithmetic_why, "the backend says so");
    const bool flushed = moe_int_flushes(); /* the caller's own way */
    moe_int_flush_set(false);
    settle_threads(backend, moe_int_thread_count(k.params->threads));
    moe_int_backend_tell(backend, k.params->progress);
    status = run_and_judge(&k, &kept);
    moe_int_backend_tell(backend, NULL);
    if (k.params->invariance && k.run.usable && !status && r->verdict < MOE_VERDICT_FAIL)
        judge_invariance(backend, problem, r);
    judge_contract(backend, r);
    if (!status && !kept && k.params->dump_dir && r->verdict == MOE_VERDICT_FAIL)
        keep(&k);
    moe_int_run_destroy(&k.run);
    moe_int_flush_set(flushed);
    r->seconds = 1e-6 * (moe_int_now_us() - start_us);
    if (status)
        moe_check_result_destroy(&r);
    else
        *ret = r;
    return status;
}
