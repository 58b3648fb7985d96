/* From results to a verdict: routing first, then tensor by tensor in the order of computation. */
#include "check/judge.h"
#include "check/bits/bits.h"
#include "check/bundle/bundle.h"
#include "check/coverage/coverage.h"
#include "check/explain/explain.h"
#include "check/identity/identity.h"
#include "check/readings.h"
#include "check/scout.h"
#include "check/trial.h"
#include "check/untold.h"
#include "check/verdict/order.h"
#include "check/verdict/result.h"
#include "reference/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef moe_int_trial trial;

/* Position in the order of computation. */
static size_t rank_of(const moe_tensor_verdict *v) {
    for (size_t i = 0; i < moe_int_order_count; i++)
        if (strcmp(v->name, moe_tensor_name(moe_int_order[i])) == 0)
            return 2 * i + 2;
    return strcmp(v->name, "topk_index") == 0 ? 3 : 0; /* after the logits; inputs first */
}

static int by_rank(const void *a, const void *b) {
    size_t x = rank_of(a), y = rank_of(b);
    return x < y ? -1 : x > y;
}

/* Was anything compared that a wrong result would have changed? */
static bool can_tell(const trial *b) {
    for (size_t i = 0; i < b->result->n_tensors; i++) {
        const moe_tensor_verdict *v = &b->result->tensor[i];
        if (strcmp(v->name, "topk_index") != 0 && v->nonzero > 0)
            return true;
    }
    return false;
}

/* A tensor that could not be compared, for want of memory. */
static const moe_tensor_verdict *not_judged(const moe_check_result *r) {
    for (size_t i = 0; i < r->n_tensors; i++)
        if (r->tensor[i].verdict == MOE_VERDICT_ERROR)
            return &r->tensor[i];
    return NULL;
}

/* What the sample leaves out: held to what the subject itself made it of. Another choice of experts
 * than the truth's has no such rows. */
static moe_status judge_identities(trial *b, const moe_check_params *params) {
    const moe_tensor_verdict *choice = moe_int_result_find(b->result, "topk_index");
    if (!b->truth.sampled || (choice && choice->verdict == MOE_VERDICT_FAIL))
        return MOE_OK;
    moe_int_rounding rounding = moe_int_rounding_at(b->reading.arithmetic, b->reading.points);
    return moe_int_identities(b->subject, &rounding, b->routing.plan,
                              moe_int_thread_count(params->threads), params->progress, b->result);
}

static moe_status conclude(trial *b, const moe_check_params *params) {
    moe_check_result *r = b->result;
    const moe_tensor_verdict *wrong = moe_int_first_failing(r);
    moe_int_judge_stages(b);
    moe_status status = judge_identities(b, params);
    if (status)
        return status;
    if (!wrong) /* what is asked for comes before what it is made of */
        wrong = moe_int_first_failing(r);
    const moe_tensor_verdict *open = not_judged(r);
    if (wrong) {
        bool guessed = strcmp(wrong->name, "topk_index") == 0 && b->routing.told != MOE_INT_TOLD;
        moe_int_result_set(r, MOE_VERDICT_FAIL, "%s: %s", guessed ? "routing" : wrong->name,
                           wrong->why);
    } else if (open) {
        moe_int_result_set(r, MOE_VERDICT_ERROR, "%s: %s", open->name, open->why);
    } else if (!can_tell(b)) {
        moe_int_result_set(r, MOE_VERDICT_MISTRUSTED,
                           "no tensor has a finite nonzero element to compare");
    } else if (r->ambiguous_tokens > 0) {
        moe_int_result_set(r, MOE_VERDICT_AMBIGUOUS, "%lld tokens chose within the rounding margin",
                           (long long)r->ambiguous_tokens);
    }
    return MOE_OK;
}

/* Nothing more is asked of a reading that explains less than everything. */
static moe_status conclude_probe(const trial *b) {
    moe_int_result_set(b->result, MOE_VERDICT_FAIL, "%s", moe_int_first_failing(b->result)->why);
    return MOE_OK;
}

/* Where a failure begins, what explains it, and the evidence. `before`: what was found of the run,
 * or of what a file held, before any result was judged; a bundle does not hold it. */
static void find_cause(trial *b, const moe_check_params *params, moe_check_result *before) {
    const bool run_failed =
        before->verdict == MOE_VERDICT_FAIL || moe_int_first_failing(before) != NULL;
    moe_check_result *r = b->result;
    if (moe_int_first_failing(r))
        snprintf(r->first_wrong_stage, sizeof r->first_wrong_stage, "%s",
                 moe_int_first_failing(r)->name);
    if (r->verdict == MOE_VERDICT_FAIL && !params->no_explanation && b->subject->stale)
        moe_int_explain_stale(b->subject->stale, r);
    if (r->verdict == MOE_VERDICT_FAIL && !params->no_explanation && !r->explanation.kind[0] &&
        !moe_int_only_drifts(b))
        moe_int_explain(b->subject, &b->routing, &b->truth, params, r);
    if (params->dump_dir && r->verdict == MOE_VERDICT_FAIL)
        moe_int_bundle_write(b->subject, &b->truth, run_failed || b->subject->drifts,
                             params->dump_dir, b->log, r);
}

/* What the case decides; a case of the suite must decide whatever it carries. */
static moe_status cover(trial *b, const moe_check_params *params) {
    moe_check_result *r = b->result;
    if (b->truth.sampled || !(params->coverage || params->must_decide))
        return MOE_OK;
    moe_status status = moe_int_coverage(b->subject->problem, b->truth.oracle, b->routing.logits,
                                         b->subject->arithmetic, &r->coverage);
    if (status)
        return status;
    moe_int_coverage_missing(&r->coverage, r->undecided, sizeof r->undecided);
    if (params->must_decide && r->undecided[0])
        moe_int_result_set(r, MOE_VERDICT_MISTRUSTED, "MISTRUSTED for %s (decides nothing here)",
                           r->undecided);
    return MOE_OK;
}

/* The truth for the routing in force. */
static moe_status make_truth(trial *b, const moe_check_params *params) {
    moe_dtype arithmetic = b->subject->arithmetic;
    moe_int_rounding rounding = moe_int_rounding_at(arithmetic, b->reading.points);
    const moe_int_truth *known = b->first ? moe_int_sample_of(b->first) : b->subject->known;
    moe_status status = moe_int_truth_make(b->subject->problem, &b->routing, &rounding, params,
                                           known, &b->subject->got, b->log, b->result, &b->truth);
    if (!status)
        status = moe_int_add_router_part(b);
    if (!status)
        moe_int_truth_range(arithmetic, &b->truth);
    b->result->ambiguous_tokens = b->routing.ambiguous;
    return status;
}

/* Where O is wrong and the choice of experts is not told, it may be the choice that differs: then
 * everything is judged again, with the one that explains O. A sample may have other tokens then,
 * and with them other choices. */
static moe_status judge_untold(trial *b, const moe_check_params *params,
                               const moe_check_result *before) {
    enum { MOST_GUESSES_OF_SAMPLES = 4 };
    int threads = moe_int_thread_count(params->threads);
    moe_status status = MOE_OK;
    int guesses = b->truth.sampled ? MOST_GUESSES_OF_SAMPLES : 1;
    for (int i = 0; !status && i < guesses && moe_int_first_failing(b->result); i++) {
        const moe_check_result judged = *b->result;
        moe_int_routing guessed;
        moe_int_result_restore(b->result, before);
        status = moe_int_untold_routing(b->subject, &b->routing, &b->truth, &b->reading, threads,
                                        b->log, b->result, &guessed);
        if (status || !guessed.plan) {
            moe_int_result_restore(b->result, &judged);
            break;
        }
        moe_int_truth_destroy(&b->truth);
        moe_int_routing_destroy(&b->routing);
        b->routing = guessed;
        status = make_truth(b, params);
        if (!status)
            moe_int_judge_tensors(b);
    }
    return status;
}

/* From here on b->subject is what the reading takes it for. */
static moe_status read_subject(trial *b) {
    moe_status status = MOE_OK;
    b->read = *b->subject;
    b->read.arithmetic = b->reading.arithmetic;
    if (moe_int_is_low(b->reading.arithmetic) && (b->reading.points & MOE_POINT_INPUT)) {
        status = moe_int_problem_rounded(b->subject->problem, b->reading.arithmetic, &b->rounded);
        b->given = b->subject->problem;
        b->read.problem = &b->rounded;
    }
    b->subject = &b->read;
    b->result->arithmetic = (int32_t)b->reading.arithmetic;
    return status;
}

/* Is O not the sum of the subject's own terms? That needs no truth, and fails a probe as it would
 * fail afterwards, where the inputs are numbers and O is compared. */
static moe_status probe_sum(trial *b) {
    const moe_problem *problem = b->subject->problem;
    const moe_tensor *O = &b->subject->got.t[MOE_T_O];
    const moe_check_result before = *b->result;
    moe_status status = MOE_OK;
    if (!b->first || !b->finite || !O->data || !moe_int_is_low(b->reading.arithmetic) ||
        moe_tensor_count(O) != problem->T * problem->layer.d)
        return MOE_OK;
    moe_int_result_entry(b->result, moe_tensor_name(MOE_T_O));
    status = moe_int_judge_own_O(b);
    if (!moe_int_first_failing(b->result))
        moe_int_result_restore(b->result, &before);
    return status;
}

/* Nothing can be told of what overflows; of what does so beside the sample, which is right, nobody
 * has computed whether it ought to. */
static moe_status conclude_out_of_range(const trial *b, bool beside) {
    moe_int_result_set(b->result, beside ? MOE_VERDICT_MISTRUSTED : MOE_VERDICT_SKIP, "%s%s",
                       beside ? "beside the sample " : "", b->truth.out_of_range);
    return MOE_OK;
}

/* The verdict of one reading, without causes; `end` is due afterwards, also on failure. */
static moe_status judge(trial *b, const moe_check_params *params) {
    moe_status status = read_subject(b);
    const moe_check_result before = *b->result;
    b->finite =
        b->first && !b->given ? b->first->finite : moe_int_inputs_finite(b->subject->problem);
    if (!status)
        status = probe_sum(b);
    if (!status && b->first && moe_int_first_failing(b->result))
        return conclude_probe(b);
    if (!status)
        status = moe_int_routing_settle(b->subject->problem, b->subject->plan, MOE_INT_TOLD,
                                        &b->reading, moe_int_thread_count(params->threads), b->log,
                                        b->result, &b->routing);
    if (!status && b->first && moe_int_first_failing(b->result))
        return conclude_probe(b);
    bool refuted = false;
    if (!status)
        status = moe_int_refute(b, params, &refuted);
    if (!status && refuted) {
        moe_int_result_set(b->result, MOE_VERDICT_FAIL, "wrong where the first reading is");
        return MOE_OK;
    }
    if (!status)
        status = make_truth(b, params);
    if (status)
        return status;
    if (b->truth.out_of_range[0])
        return conclude_out_of_range(b, false);
    moe_int_judge_tensors(b);
    if (b->truth.out_of_range[0] && !moe_int_first_failing(b->result))
        return conclude_out_of_range(b, true);
    status = judge_untold(b, params, &before);
    if (!status)
        status = moe_int_judge_sums(b);
    if (!status)
        status = moe_int_scout(b, params);
    if (!status && b->first && moe_int_first_failing(b->result))
        return conclude_probe(b);
    return status ? status : conclude(b, params);
}

static void end(trial *b) {
    moe_int_truth_destroy(&b->truth);
    moe_int_truth_destroy(&b->sample);
    free(b->far);
    moe_int_routing_destroy(&b->routing);
    if (b->given)
        moe_int_problem_free(b->given, &b->rounded);
}

static moe_status probe(const moe_int_subject *subject, const trial *first,
                        const moe_int_reading *reading, const moe_check_params *params,
                        const moe_log *log, moe_check_result *result) {
    trial b = {
        .subject = subject, .reading = *reading, .first = first, .log = log, .result = result};
    moe_status status = judge(&b, params);
    end(&b);
    return status;
}

/* Values that are made of rounding: nothing but their bits can be judged. */
static moe_status judge_cancelling(const moe_int_subject *subject, const moe_check_params *params,
                                   const moe_log *log, moe_check_result *result) {
    const moe_int_reading reading = {subject->arithmetic,
                                     moe_int_recipe_points(params, subject->problem)};
    moe_int_routing routing = {0};
    if (!moe_int_bits_wanted(subject, params)) {
        moe_int_result_set(result, MOE_VERDICT_MISTRUSTED,
                           "data=cancel is judged by bits alone: check --bits");
        return MOE_OK;
    }
    result->arithmetic = (int32_t)subject->arithmetic;
    moe_status status =
        moe_int_routing_settle(subject->problem, subject->plan, MOE_INT_TOLD, &reading,
                               moe_int_thread_count(params->threads), log, result, &routing);
    if (!status)
        status = moe_int_bits(subject, routing.plan, params, result);
    moe_int_routing_destroy(&routing);
    return status;
}

moe_status moe_int_judge(const moe_int_subject *subject, const moe_check_params *params,
                         const moe_log *log, moe_check_result *result) {
    if (subject->problem->cancels)
        return judge_cancelling(subject, params, log, result);
    moe_check_result before = *result;
    trial b = {.subject = subject,
               .reading = {subject->arithmetic, moe_int_recipe_points(params, subject->problem)},
               .log = log,
               .progress = params->progress,
               .result = result,
               .map_tile = params->map_tile};
    moe_status status = judge(&b, params);
    moe_int_name_reading(params, subject->problem, result);
    if (!status)
        status = moe_int_other_readings(subject, &b, params, log, probe, &before, result);
    if (!status)
        status = cover(&b, params);
    if (!status)
        find_cause(&b, params, &before);
    if (!status && !result->explanation.ended)
        status = moe_int_bits(subject, b.routing.plan, params, result);
    qsort(result->tensor, result->n_tensors, sizeof *result->tensor, by_rank);
    end(&b);
    return status;
}
