/* One tensor against its truth, golden, whole or sampled, and the same tensor of other runs. */
#include "check/trial.h"
#include "check/compare/compare.h"
#include "check/precision.h"
#include "check/state/state.h"
#include "check/verdict/order.h"
#include "check/verdict/result.h"
#include "core/bytes.h"
#include "core/elements.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* The golden tensor, or NULL: golden values hold for the routing that they were made with.
 * `weights` is room for a view of the plan's. */
static const moe_tensor *golden_of(const moe_int_trial *b, moe_tensor_id id, moe_tensor *weights) {
    const moe_problem *problem = b->subject->problem;
    if (b->routing.foreign)
        return NULL;
    if (problem->expected.t[id].data)
        return &problem->expected.t[id];
    if (id != MOE_T_S || !problem->expected_plan)
        return NULL;
    *weights = (moe_tensor){.data = problem->expected_plan->weight,
                            .dtype = MOE_F64,
                            .ndim = 1,
                            .shape = {problem->expected_plan->n_pairs}};
    return weights;
}

/* The sampled rows of other results are not those of the sampled tokens (errors/rows.h). */
static bool is_of_sampled_tokens(moe_tensor_id id) {
    return id == MOE_T_O || id == MOE_T_DX || moe_int_is_inner_stage(id);
}

/* The elements that the sample covers; `base` is what compare() knows of the tensor already. Here c
 * is a copy that does not outlive the tensors it points at. */
static void compare_sampled(const moe_int_trial *b, const moe_int_comparison *base,
                            moe_tensor_verdict *ret) {
    const moe_int_part *part = &b->truth.part[base->id];
    const moe_tensor *whole = base->got;
    moe_int_comparison c = *base;
    moe_tensor got, shape = *whole;
    int64_t pairs = b->routing.plan->offsets[c.desc->E];
    moe_tensor_shape(c.desc, c.id, b->subject->problem->T, pairs, b->routing.plan->n_pairs, &shape);
    memset(ret, 0, sizeof *ret);
    snprintf(ret->name, sizeof ret->name, "%s", moe_tensor_name(c.id));
    ret->truth = c.truth = "sampled";
    ret->worst_expert = -1;
    if (part->layout.groups == 0) {
        ret->verdict = MOE_VERDICT_SKIP;
        snprintf(ret->why, sizeof ret->why, "the sample does not cover it");
        return;
    }
    c.whole = whole;
    c.layout = &part->layout;
    c.want = &part->want;
    c.variance = part->variance.data ? &part->variance : NULL;
    c.rows = is_of_sampled_tokens(c.id) ? &b->truth.rows : NULL;
    if (!moe_tensor_same_shape(whole, &shape)) {
        c.want = &shape; /* reports both shapes */
        moe_int_compare(&c, ret);
    } else if (moe_int_part_gather(whole, part, &got) == MOE_OK) {
        c.got = &got;
        moe_int_compare(&c, ret);
        moe_tensor_destroy(&got);
    } else {
        ret->verdict = MOE_VERDICT_ERROR;
        snprintf(ret->why, sizeof ret->why, "no memory to gather the sample");
    }
}

/* Compares with the oracle too: nothing can be told from golden values that are not numbers, but
 * the oracle still has a value there. Its verdict counts only if it is a failure. */
static void compare_lost(const moe_int_trial *b, const moe_int_comparison *golden,
                         moe_tensor_verdict *ret) {
    moe_tensor_verdict v;
    moe_int_comparison c = *golden;
    c.want = &b->truth.oracle->out.t[c.id];
    c.truth = "oracle";
    moe_int_compare(&c, &v);
    if (v.verdict == MOE_VERDICT_FAIL)
        *ret = v;
}

/* Does the error model leave elements of a result open, at kinks of the activation? Then *ret are
 * the golden values without those; the caller's. */
static bool leaves_open(const moe_int_trial *b, moe_tensor_id id, const moe_tensor *golden,
                        moe_tensor *ret) {
    if (b->truth.sampled || !b->finite || !moe_int_has_kinks(&b->subject->problem->layer))
        return false;
    const moe_tensor *oracle = &b->truth.oracle->out.t[id];
    const double *seen = oracle->data;
    const int64_t count = seen ? moe_tensor_count(oracle) : 0;
    for (int64_t i = 0; i < count; i++) {
        if (!isnan(seen[i]))
            continue;
        if (!ret->data && moe_tensor_cast(golden, MOE_F64, ret))
            return false;
        ((double *)ret->data)[i] = (double)NAN;
    }
    return ret->data != NULL;
}

static void compare(const moe_int_trial *b, moe_tensor_id id, const moe_tensor *got,
                    moe_tensor_verdict *ret) {
    moe_tensor weights, open = {0};
    const moe_tensor *golden = golden_of(b, id, &weights);
    if (golden && leaves_open(b, id, golden, &open))
        golden = &open;
    moe_int_comparison c = {.id = id,
                            .arithmetic = b->subject->arithmetic,
                            .points = b->reading.points,
                            .promised_fp32 = moe_int_promised_fp32(id, &b->reading),
                            .in_fp32 = moe_int_promised_fp32(id, &b->reading) && id != MOE_T_DS,
                            .desc = &b->subject->problem->layer,
                            .got = got,
                            .plan = b->routing.plan,
                            .infinite_only = b->infinite_only,
                            .verdict_only = b->first != NULL,
                            .tile = b->map_tile,
                            .maps = b->first ? NULL : b->result};
    if (b->truth.sampled && !golden) {
        compare_sampled(b, &c, ret);
        return;
    }
    const moe_tensor *variance = &b->truth.variance.t[id];
    c.want = golden ? golden : &b->truth.oracle->out.t[id];
    c.truth = golden ? "golden" : "oracle";
    if (!b->truth.sampled && variance->data)
        c.variance = variance;
    c.exact = b->truth.exact;
    if (!b->truth.sampled && !b->truth.exact)
        c.rows = &b->truth.rows;
    moe_int_compare(&c, ret);
    if (golden && !b->truth.sampled && ret->verdict != MOE_VERDICT_FAIL && ret->not_compared > 0)
        compare_lost(b, &c, ret);
    moe_tensor_destroy(&open);
}

/* What is there beside numbers: how many elements, the first of them, and the largest number. */
typedef struct beside {
    int64_t bad, infinite, first;
    double largest;
} beside;

static beside look_beside(const moe_tensor *got) {
    enum { CHUNK = 1024, MANY = 1 << 20 }; /* elements: worth a team of threads */
    const int64_t count = moe_tensor_count(got);
    int64_t bad = 0, infinite = 0, first = count;
    double largest = 0;
#pragma omp parallel for schedule(static) if (count >= MANY) reduction(+ : bad, infinite)     \
    reduction(min : first) reduction(max : largest)
    for (int64_t i = 0; i < count; i += CHUNK) {
        const int64_t n = count - i < CHUNK ? count - i : CHUNK;
        double v[CHUNK];
        moe_int_load(got, i, n, v);
        for (int64_t k = 0; k < n; k++) {
            const double size = fabs(v[k]);
            if (size <= DBL_MAX) {
                largest = size > largest ? size : largest;
                continue;
            }
            infinite += isinf(v[k]) != 0;
            bad++;
            first = i + k < first ? i + k : first;
        }
    }
    return (beside){bad, infinite, bad ? first : -1, largest};
}

/* Infinities of fp16, beside numbers of a quarter of its range: right, as far as the sample tells.
 */
static bool overflows(const moe_int_trial *b, const beside *n) {
    const double quarter = 65504.0 / 4;
    return b->subject->arithmetic == MOE_F16 && n->infinite == n->bad && n->largest >= quarter;
}

/* Of a sampled tensor every element is at least looked at: is it written, is it a number? */
static void scan_whole(moe_int_trial *b, const moe_tensor *got, moe_tensor_verdict *v) {
    const beside n = look_beside(got);
    const char *what = "are not finite";
    if (n.bad == 0)
        return;
    if (overflows(b, &n)) {
        snprintf(b->truth.out_of_range, sizeof b->truth.out_of_range,
                 "%s (largest %.1e, %lld infinite) is outside the range of fp16", v->name,
                 n.largest, (long long)n.infinite);
        return;
    }
    v->bad_elements = n.bad;
    v->worst_ndim = got->ndim;
    moe_int_unravel(got, n.first, v->worst_index);
    v->got = moe_load(got->data, got->dtype, (size_t)n.first);
    v->want = 0;
    if (moe_int_is_poison(got, n.first))
        what = "were not written or are not finite";
    moe_int_entry_fail(v, "%lld of %lld elements %s", (long long)n.bad,
                       (long long)moe_tensor_count(got), what);
}

/* The same tensor of another run: its failure is the tensor's. Of a sample the router's gradients
 * are judged by the first run's own dS, which need not have the bits of another's; a choice that
 * was guessed is not known to be the second input's too. */
static void judge_again(const moe_int_trial *b, moe_tensor_id id, moe_int_again again,
                        moe_tensor_verdict *v) {
    moe_tensor_verdict fresh;
    bool of_first = b->truth.sampled && (id == MOE_T_DW_R || id == MOE_T_DB_R);
    bool guessed = again == MOE_INT_SECOND && b->routing.foreign && !b->subject->plan;
    const moe_tensor *first = &b->subject->got.t[id], *t = &b->subject->again[again].t[id];
    if (!t->data || v->verdict != MOE_VERDICT_PASS || of_first || guessed)
        return;
    if (t->dtype == first->dtype && moe_tensor_same_shape(t, first) &&
        moe_int_same_bytes(t->data, first->data, (size_t)moe_tensor_bytes(t)))
        return; /* judged */
    compare(b, id, t, &fresh);
    if (fresh.verdict < MOE_VERDICT_FAIL)
        return;
    int times = moe_int_times(first, t);
    char why[sizeof fresh.why];
    memcpy(why, fresh.why, sizeof why);
    *v = fresh;
    if (times > 0)
        snprintf(v->why, sizeof v->why, "%s: %d times the first run's: it adds to what is there",
                 moe_int_again_word(again), times);
    else
        snprintf(v->why, sizeof v->why, "%s: %.110s", moe_int_again_word(again), why);
}

void moe_int_judge_tensor(moe_int_trial *b, moe_tensor_id id, const moe_tensor *got, bool scan) {
    moe_tensor_verdict fresh, *v = moe_int_result_entry(b->result, moe_tensor_name(id));
    moe_tensor_verdict before = *v;
    moe_int_result_drop_maps(b->result, v->name);
    compare(b, id, got, &fresh);
    if (scan)
        scan_whole(b, got, &fresh);
    *v = fresh;
    if (before.verdict == MOE_VERDICT_FAIL) {
        v->verdict = before.verdict;
        memcpy(v->why, before.why, sizeof v->why);
    }
    if (fresh.verdict != MOE_VERDICT_SKIP)
        b->result->checked_elements +=
            b->truth.sampled ? moe_tensor_count(&b->truth.part[id].want) : moe_tensor_count(got);
    for (int i = 0; i < MOE_INT_AGAIN_COUNT; i++)
        judge_again(b, id, (moe_int_again)i, v);
}

moe_status moe_int_add_router_part(moe_int_trial *b) {
    const moe_tensor *dS = &b->subject->got.t[MOE_T_DS];
    if (!b->truth.sampled || b->subject->problem->plan || !dS->data ||
        moe_tensor_count(dS) != b->routing.plan->n_pairs)
        return MOE_OK;
    moe_int_rounding rounding = moe_int_rounding_at(b->reading.arithmetic, b->reading.points);
    return moe_int_sample_router(b->subject->problem, &b->routing, dS, &rounding, &b->truth);
}
