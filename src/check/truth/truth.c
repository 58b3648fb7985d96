/* The truth that results are judged against: the reference layer in float64 with the routing in
 * force, of all tokens or, for large shapes, of a sample. */
#include "check/truth/truth.h"
#include "check/errors/exact.h"
#include "check/routing/alternatives.h"
#include "check/verdict/order.h"
#include "core/progress.h"
#include "reference/run.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SAMPLE_ABOVE 4e10 /* model FLOPs: some 10 s of plain loops on two cores */
#define ORACLE_BYTES_MAX     4e9  /* of weight gradients and their variance in float64 */

static bool has_backward(const moe_problem *problem) {
    return (problem->pass & MOE_PASS_BWD) != 0;
}

static bool is_large(const moe_problem *problem, int64_t pairs, const moe_check_params *params) {
    const moe_layer_desc *desc = &problem->layer;
    int64_t above = params->sample_above_flops;
    if (above < 0)
        return false;
    double flops = moe_layer_flops(desc, problem->T, pairs, 0);
    double width = (double)(moe_h_width(desc, desc->n) + desc->n);
    double bytes = 0;
    if (has_backward(problem)) {
        flops += moe_layer_flops(desc, problem->T, pairs, 1);
        bytes = 2 * sizeof(double) * (double)desc->E * width * (double)desc->d;
    }
    return flops > (above ? (double)above : DEFAULT_SAMPLE_ABOVE) ||
           (!above && bytes > ORACLE_BYTES_MAX);
}

bool moe_int_wants_sample(const moe_problem *problem, const moe_plan *plan,
                          const moe_check_params *params) {
    return is_large(problem, plan->offsets[problem->layer.E], params);
}

bool moe_check_may_sample(const moe_problem *problem, const moe_check_params *params) {
    const moe_layer_desc *desc = &problem->layer;
    const int64_t most = moe_int_chooses_by_token(desc) ? desc->K : desc->E;
    return problem->plan ? moe_int_wants_sample(problem, problem->plan, params)
                         : is_large(problem, problem->T * most, params);
}

static bool same_inputs(const moe_tensors *a, const moe_tensors *b) {
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (a->t[id].data != b->t[id].data)
            return false;
    return true;
}

bool moe_int_same_pairs(const moe_plan *a, const moe_plan *b) {
    return a->n_pairs == b->n_pairs &&
           memcmp(a->offsets, b->offsets, ((size_t)a->n_experts + 1) * sizeof *a->offsets) == 0 &&
           memcmp(a->token, b->token, (size_t)a->n_pairs * sizeof *a->token) == 0;
}

/* May t have the other truth's oracle? Not where an error model has put NaN into it, at kinks. */
static bool can_borrow(const moe_problem *problem, const moe_int_routing *routing,
                       const moe_int_truth *known, const moe_int_truth *t) {
    return known && known->oracle && !known->sampled && !moe_int_has_kinks(&problem->layer) &&
           same_inputs(&known->in, &t->in) &&
           moe_int_same_pairs(known->oracle->plan, routing->plan);
}

static moe_status run_oracle(const moe_problem *problem, const moe_int_routing *routing,
                             const moe_int_rounding *rounding, const moe_check_params *how,
                             const moe_int_truth *known, const moe_log *log, moe_int_truth *t) {
    moe_status status = MOE_OK;
    moe_reference_params params = {.tokens = problem->T,
                                   .precision = MOE_F64,
                                   .threads = how->threads,
                                   .progress = how->progress,
                                   .plan = routing->plan,
                                   .plan_given = problem->plan != NULL,
                                   .seed = problem->seed};
    t->borrowed = can_borrow(problem, routing, known, t);
    if (t->borrowed)
        t->oracle = known->oracle;
    else
        status = moe_reference_run(&problem->layer, &t->in, &params, log, &t->oracle);
    if (status)
        return status;
    t->exact = moe_int_exact_layer(&problem->layer, &t->in, t->oracle, rounding->arithmetic);
    if (t->exact)
        return MOE_OK;
    return moe_int_layer_errors(&problem->layer, &t->in, rounding,
                                moe_int_thread_count(how->threads), t->oracle, &t->variance,
                                &t->rows);
}

/* Smallest normal and largest finite number. */
static bool range_of(moe_dtype dtype, double *low, double *high) {
    switch (dtype) {
    case MOE_F16:
        *low = 0x1p-14;
        *high = 65504;
        return true;
    case MOE_BF16:
        *low = FLT_MIN;
        *high = 0x1.fep127;
        return true;
    case MOE_F32:
        *low = FLT_MIN;
        *high = FLT_MAX;
        return true;
    case MOE_F64:
    case MOE_I64:
    case MOE_I32:
    case MOE_U8:
    case MOE_DTYPE_COUNT:
        break;
    }
    return false;
}

/* The largest magnitude in a float64 tensor and the root mean square of its nonzero elements. */
static void sizes_of(const moe_tensor *t, double *ret_max, double *ret_rms) {
    const double *v = t->data;
    double max = 0, sum = 0;
    int64_t n = 0, count = moe_tensor_count(t);
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(v[i]) || v[i] == 0)
            continue;
        double size = fabs(v[i]);
        max = size > max ? size : max;
        sum += v[i] * v[i];
        n++;
    }
    *ret_max = max;
    *ret_rms = n > 0 ? sqrt(sum / (double)n) : 0;
}

/* Tensors through which everything else passes: if one of them drowns in the fixed spacing of
 * subnormal numbers, which replaces the relative roundoff there, no kernel can be right. */
static bool carries_the_rest(moe_tensor_id id) {
    return moe_int_is_inner_stage(id) || id == MOE_T_O || id == MOE_T_DX || id == MOE_T_DW1 ||
           id == MOE_T_DW2;
}

/* Nor can one be right where a tensor that it stores overflows. */
static void note_tensor(moe_tensor_id id, const moe_tensor *want, moe_dtype arithmetic,
                        moe_int_truth *t) {
    double low, high, max, rms;
    if (!want->data || t->out_of_range[0] || id == MOE_T_LOGITS || id == MOE_T_S ||
        !range_of(arithmetic, &low, &high))
        return;
    sizes_of(want, &max, &rms);
    if (max <= high && (rms == 0 || rms >= 4 * low || !carries_the_rest(id)))
        return;
    snprintf(t->out_of_range, sizeof t->out_of_range,
             "%s (size %.1e, largest %.1e) is outside the range of %s", moe_tensor_name(id), rms,
             max, moe_dtype_name(arithmetic));
}

void moe_int_truth_range(moe_dtype arithmetic, moe_int_truth *t) {
    for (size_t i = 0; i < moe_int_order_count; i++) {
        moe_tensor_id id = moe_int_order[i];
        const moe_tensor *want = t->sampled ? &t->part[id].want : &t->oracle->out.t[id];
        note_tensor(id, want, arithmetic, t);
    }
}

/* Experts among the sampled hidden units, which come expert by expert. */
static int64_t experts_in(const moe_int_part *part) {
    int64_t n = 0;
    for (int64_t g = 0; g < part->layout.groups; g++)
        n += g == 0 || part->expert[g] != part->expert[g - 1];
    return n;
}

static moe_status sample(const moe_problem *problem, const moe_int_routing *routing,
                         const moe_int_rounding *rounding, const moe_check_params *how,
                         const moe_int_truth *known, const moe_tensors *seen, const moe_log *log,
                         moe_check_result *result, moe_int_truth *t) {
    int workers = moe_int_thread_count(how->threads);
    t->sampled = true;
    moe_int_progress(how->progress, "oracle", 0, 2); /* of tokens, of hidden units */
    moe_status status =
        moe_int_sample_tokens(problem, routing, rounding, workers, known, seen, log, t);
    if (status || !has_backward(problem)) {
        snprintf(result->sampled, sizeof result->sampled, "%lld of %lld tokens",
                 (long long)t->n_tokens, (long long)problem->T);
        return status;
    }
    moe_int_progress(how->progress, "oracle", 1, 2);
    status = moe_int_sample_units(problem, routing, rounding, workers, t);
    const moe_int_part *dW2 = &t->part[MOE_T_DW2];
    snprintf(result->sampled, sizeof result->sampled,
             "O, dX, dS: %lld of %lld tokens; dW1, dW2: %lld of %lld hidden units in %lld experts; "
             "dW_r from the given dS",
             (long long)t->n_tokens, (long long)problem->T, (long long)dW2->layout.groups,
             (long long)problem->layer.E * (long long)problem->layer.n, (long long)experts_in(dW2));
    return status;
}

moe_status moe_int_truth_make(const moe_problem *problem, const moe_int_routing *routing,
                              const moe_int_rounding *rounding, const moe_check_params *params,
                              const moe_int_truth *known, const moe_tensors *seen,
                              const moe_log *log, moe_check_result *result, moe_int_truth *ret) {
    memset(ret, 0, sizeof *ret);
    ret->in = problem->in;
    if (!has_backward(problem))
        ret->in.t[MOE_T_DO] = (moe_tensor){0};
    moe_status status;
    if (moe_int_wants_sample(problem, routing->plan, params))
        status = sample(problem, routing, rounding, params, known, seen, log, result, ret);
    else
        status = run_oracle(problem, routing, rounding, params, known, log, ret);
    if (status == MOE_E_NOMEM)
        moe_fail(log, status, "no memory for the oracle of %lld tokens", (long long)problem->T);
    return status;
}

void moe_int_truth_destroy(moe_int_truth *t) {
    if (!t->borrowed)
        moe_reference_result_destroy(&t->oracle);
    if (!t->borrowed_errors) {
        moe_tensors_destroy(&t->variance);
        moe_int_rows_destroy(&t->rows);
    }
    for (int id = 0; id < MOE_T_COUNT; id++)
        moe_int_part_destroy(&t->part[id]);
    if (t->sampled) {
        moe_tensor_destroy(&t->in.t[MOE_T_X]);
        moe_tensor_destroy(&t->in.t[MOE_T_DO]);
    }
    free(t->tokens);
    memset(t, 0, sizeof *t);
}
