/* The suite decides every feature of a layer, in every type; and cases that decide nothing, or
 * everything to the last bit, are treated as such. */
#include "drawn.h"
#include "moeref/check.h"
#include "moeref/reference.h"
#include "moeref/selftest.h"
#include "moeref/suite.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST = 20 };

static moe_backend *open_reference(moe_backends **ret_all, const char *spec) {
    moe_open_params params = {.threads = 2};
    moe_backend *backend = NULL;
    cr_assert_eq(moe_backends_load("", NULL, ret_all), MOE_OK);
    cr_assert_eq(moe_backend_open(*ret_all, spec, &params, NULL, &backend), MOE_OK);
    return backend;
}

static moe_check_result *check(moe_backend *backend, const moe_problem *problem, bool must_decide) {
    moe_check_params params = {.coverage = true, .must_decide = must_decide};
    moe_check_result *result = NULL;
    cr_assert_eq(moe_check_backend(backend, problem, &params, NULL, &result), MOE_OK);
    return result;
}

static int32_t feature(const char *name) {
    for (int32_t f = 0; f < moe_features(); f++)
        if (strcmp(moe_feature_name(f), name) == 0)
            return f;
    cr_assert_fail("no feature '%s'", name);
    return -1;
}

Test(coverage, suite_decides_every_feature) {
    static const moe_dtype types[] = {MOE_BF16, MOE_F16, MOE_F32};
    static int64_t sum[MOE_DTYPE_COUNT][MOE_FEATURES_MAX];
    moe_backends *all = NULL;
    moe_backend *backend = open_reference(&all, "reference");
    int64_t most_experts = 0, most_chosen = 0;
    size_t count;
    const char *const *lines = moe_suite(&count);
    for (size_t i = 0; i < count; i++) {
        moe_problem *p = drawn(lines[i]);
        moe_check_result *r = check(backend, p, true);
        cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s: %s", lines[i], r->why);
        cr_expect(r->coverage.counted, "%s", lines[i]);
        for (int32_t f = 0; f < moe_features(); f++)
            sum[p->dtype][f] += r->coverage.decided[f];
        most_experts = p->layer.E > most_experts ? p->layer.E : most_experts;
        most_chosen = p->layer.K > most_chosen ? p->layer.K : most_chosen;
        moe_check_result_destroy(&r);
        moe_problem_destroy(&p);
    }
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int32_t f = 0; f < moe_features(); f++)
            cr_expect_geq(sum[types[t]][f], LEAST, "%s: %s decides %lld %s",
                          moe_dtype_name(types[t]), moe_feature_name(f),
                          (long long)sum[types[t]][f], moe_feature_counted(f));
    cr_expect_eq(most_experts, 512);
    cr_expect_eq(most_chosen, 22);
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
}

/* What a case asks for and does not get. */
static const struct {
    const char *line, *feature;
} idle[] = {
    {"T=12 d=16 n=8 E=4 K=2 act=swiglu_clamp limit=7 seed=1", "clamp_gate_above"},
    {"T=12 d=16 n=8 E=4 K=2 renorm=1 eps=1e-20 seed=1", "eps"},
    {"T=4 d=16 n=8 E=4 K=2 score=sigmoid select_bias=1 b_scale=0.001 seed=1", "select_bias"},
    {"T=8 d=16 n=8 E=100 K=1 route=hot:0 seed=3", "experts_above_64"},
    {"T=8 d=16 n=8 E=4 K=2 select=capacity capacity=8 seed=1", "capacity_drops"},
    {"T=8 d=16 n=8 E=8 K=8 select=group_topk groups=4 topk_groups=4 seed=1", "select_group_topk"},
    {"T=200 d=160 n=96 E=1 K=1 act=relu data=exact route=uniform seed=1", "exact"},
};

Test(coverage, idle_features_are_mistrusted) {
    moe_backends *all = NULL;
    moe_backend *backend = open_reference(&all, "reference:bf16");
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++) {
        const int32_t f = feature(idle[i].feature);
        moe_problem *p = drawn(idle[i].line);
        moe_check_result *asked = check(backend, p, true), *told = check(backend, p, false);
        cr_expect_eq(asked->coverage.decided[f], 0, "%s", idle[i].line);
        cr_expect(asked->coverage.carried[f], "%s", idle[i].line);
        cr_expect_eq(asked->verdict, MOE_VERDICT_MISTRUSTED, "%s", idle[i].line);
        cr_expect(strstr(asked->why, idle[i].feature), "%s: %s", idle[i].line, asked->why);
        cr_expect_eq(told->verdict, MOE_VERDICT_PASS, "%s: one's own case is", idle[i].line);
        moe_check_result_destroy(&asked);
        moe_check_result_destroy(&told);
        moe_problem_destroy(&p);
    }
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
}

/* Sums of 768 integers pass what bf16 holds, but those on the limit do not. */
Test(coverage, values_on_a_limit_among_others_that_round) {
    moe_backends *all = NULL;
    moe_backend *backend = open_reference(&all, "reference:bf16");
    moe_problem *p = drawn("T=128 d=768 n=64 E=8 K=2 act=swiglu_clamp limit=1 data=integer "
                           "route=uniform seed=24 dtype=bf16 pass=fwd");
    moe_check_result *r = check(backend, p, false);
    cr_expect_geq(r->coverage.decided[feature("clamp_gate_on_limit")], LEAST);
    moe_check_result_destroy(&r);
    moe_problem_destroy(&p);
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
}

/* The layer of a planted fault at real size, but for its width inside, which chooses no expert. */
static moe_problem *layer_of_fault(const char *name) {
    size_t count, i = 0;
    char line[256], narrow[256];
    const moe_fault *fault = moe_faults(&count);
    while (i < count && strcmp(fault[i].name, name) != 0)
        i++;
    cr_assert_lt(i, count, "%s", name);
    moe_fault_line(&fault[i], MOE_F32, true, line, sizeof line);
    const char *n = strstr(line, " n=256");
    cr_assert(n, "%s", line);
    snprintf(narrow, sizeof narrow, "%.*s n=1%s pass=fwd", (int)(n - line), line, n + 6);
    return drawn(narrow);
}

/* A fault of the group mask is planted where the mask decides what the fault changes. */
Test(coverage, layers_of_real_size_decide) {
    static const char *const faults[][2] = {{"groups_ignored", "select_group_topk"},
                                            {"groups_masked_zero", "group_mask"},
                                            {"group_by_best", "group_sum"}};
    moe_backends *all = NULL;
    moe_backend *backend = open_reference(&all, "reference:fp32");
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        moe_problem *p = layer_of_fault(faults[i][0]);
        moe_check_result *r = check(backend, p, false);
        cr_expect_geq(r->coverage.decided[feature(faults[i][1])], LEAST, "%s: %s", faults[i][0],
                      faults[i][1]);
        moe_check_result_destroy(&r);
        moe_problem_destroy(&p);
    }
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
}

/* The problem expects what the reference gave, but for element `at` of one tensor, which lies one
 * step of `dtype` beside. */
static void expect_a_step(moe_problem *p, moe_tensor_id id, moe_dtype dtype, int64_t at) {
    const moe_tensor *shape = &p->in.t[id == MOE_T_DW1   ? MOE_T_W1
                                       : id == MOE_T_DW2 ? MOE_T_W2
                                                         : MOE_T_X];
    moe_reference_params params = {
        .tokens = p->T, .precision = MOE_F64, .plan = p->plan, .plan_given = 1};
    moe_reference_result *oracle = NULL;
    cr_assert_eq(moe_reference_run(&p->layer, &p->in, &params, NULL, &oracle), MOE_OK);
    cr_assert(moe_tensor_same_shape(shape, &oracle->out.t[id]));
    cr_assert_eq(moe_tensor_cast(&oracle->out.t[id], MOE_F64, &p->expected.t[id]), MOE_OK);
    double *v = (double *)p->expected.t[id].data + at;
    *v += *v == 0 ? 0x1p-10 : 2 * *v * moe_dtype_roundoff(dtype);
    moe_reference_result_destroy(&oracle);
}

Test(coverage, exact_cases_allow_no_step) {
    static const struct {
        const char *spec, *line;
        moe_dtype dtype;
    } runs[] = {
        {"reference:bf16", "T=40 d=16 n=8 E=4 K=2 act=relu data=exact route=zipf:1 seed=3",
         MOE_BF16},
        {"reference:fp16", "T=40 d=16 n=8 E=4 K=2 act=relu2 data=exact route=uniform seed=4",
         MOE_F16},
        {"reference:fp32", "T=40 d=16 n=8 E=4 K=2 act=reglu data=exact route=uniform seed=5",
         MOE_F32},
    };
    static const moe_tensor_id tensors[] = {MOE_T_O, MOE_T_DX, MOE_T_DW1, MOE_T_DW2};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        moe_backends *all = NULL;
        moe_backend *backend = open_reference(&all, runs[i].spec);
        for (size_t k = 0; k < sizeof tensors / sizeof *tensors; k++) {
            char words[40];
            moe_problem *p = drawn(runs[i].line);
            moe_check_result *right = check(backend, p, true);
            cr_expect_eq(right->verdict, MOE_VERDICT_PASS, "%s: %s", runs[i].line, right->why);
            expect_a_step(p, tensors[k], runs[i].dtype, 37);
            moe_check_result *wrong = check(backend, p, true);
            snprintf(words, sizeof words, "exact case: %s[", moe_tensor_name(tensors[k]));
            cr_expect_eq(wrong->verdict, MOE_VERDICT_FAIL, "%s: %s", runs[i].spec, words);
            cr_expect(strstr(wrong->why, words), "%s: %s", runs[i].spec, wrong->why);
            moe_check_result_destroy(&right);
            moe_check_result_destroy(&wrong);
            moe_problem_destroy(&p);
        }
        moe_backend_close(&backend);
        moe_backends_destroy(&all);
    }
}

/* A failure stays one, however little the case decides. */
Test(coverage, mistrust_hides_no_failure) {
    moe_backends *all = NULL;
    moe_backend *backend = open_reference(&all, "reference");
    moe_problem *p = drawn("T=40 d=16 n=8 E=70 K=1 act=swiglu_clamp route=hot:1 dtype=fp32 seed=6");
    expect_a_step(p, MOE_T_O, MOE_BF16, 5);
    moe_check_result *r = check(backend, p, true);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%s", moe_verdict_str(r->verdict));
    moe_check_result_destroy(&r);
    moe_problem_destroy(&p);
    moe_backend_close(&backend);
    moe_backends_destroy(&all);
}
