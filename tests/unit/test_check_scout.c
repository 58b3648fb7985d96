/* A sample of 32 tokens and a few hidden units misses a wrong row beside it; a fast run of the same
 * layer finds it, and the truth judges it there. */
#include "capture.h"
#include "drawn.h"
#include "entry.h"
#include "moeref/backend.h"
#include "moeref/check.h"
#include "moeref/reference.h"
#include "moeref/safetensors.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define ROUTED "T=900 d=24 n=16 E=6 K=2 dtype=fp32 renorm=1 seed=3"

/* A layer's right results, to be made wrong somewhere, and how they are judged. */
typedef struct results {
    capture seen;
    moe_log log;
    moe_backends *all;
    moe_problem *problem;
    moe_reference_result *right;
    moe_check_params params;
} results;

static void open_results(results *r, const char *line) {
    memset(r, 0, sizeof *r);
    r->log = capture_log(&r->seen);
    r->problem = drawn(line);
    moe_reference_params params = {.tokens = r->problem->T,
                                   .precision = MOE_F64,
                                   .plan = r->problem->plan,
                                   .plan_given = r->problem->plan != NULL};
    cr_assert_eq(moe_reference_run(&r->problem->layer, &r->problem->in, &params, NULL, &r->right),
                 MOE_OK);
    cr_assert_eq(moe_backends_load("", &r->log, &r->all), MOE_OK);
    r->params = (moe_check_params){.sample_above_flops = 1,
                                   .threads = 1,
                                   .no_explanation = true,
                                   .backends = r->all,
                                   .scout = "reference:fp32"};
}

static void close_results(results *r) {
    moe_reference_result_destroy(&r->right);
    moe_problem_destroy(&r->problem);
    moe_backends_destroy(&r->all);
}

/* `dS` is left out where the router's gradients need not be made of it. */
static moe_check_result *judge(results *r, const char *scout) {
    static const moe_tensor_id ids[] = {MOE_T_O,   MOE_T_DX,  MOE_T_DW1,        MOE_T_DW2,
                                        MOE_T_DB1, MOE_T_DB2, MOE_T_DW1_SHARED, MOE_T_DW2_SHARED};
    moe_named_tensor list[8];
    size_t count = 0;
    moe_safetensors *file = NULL;
    moe_check_result *result = NULL;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (r->right->out.t[ids[i]].data)
            list[count++] = (moe_named_tensor){moe_tensor_name(ids[i]), r->right->out.t[ids[i]]};
    r->params.scout = scout;
    cr_assert_eq(moe_safetensors_of(list, count, "results", &r->log, &file), MOE_OK);
    cr_assert_eq(
        moe_check_tensors(file, "results", r->problem, MOE_F32, &r->params, &r->log, &result),
        MOE_OK);
    moe_safetensors_close(&file);
    return result;
}

static void expect(results *r, const char *scout, const char *failing, const char *scouted) {
    moe_check_result *result = judge(r, scout);
    cr_expect(result->sampled[0], "%s", r->problem->name);
    cr_expect_eq(result->verdict, failing ? MOE_VERDICT_FAIL : MOE_VERDICT_PASS, "%s, %s: %s",
                 r->problem->name, scout, result->why);
    if (failing) {
        cr_expect(strncmp(result->why, failing, strlen(failing)) == 0, "%s", result->why);
        cr_expect_str_eq(result->first_wrong_stage, failing);
    }
    cr_expect_str_eq(result->scouted, scouted);
    moe_check_result_destroy(&result);
}

static double *at(const results *r, moe_tensor_id id, int64_t index) {
    return (double *)r->right->out.t[id].data + index;
}

/* Right results pass, whatever the layer has around its experts: also dX, which has what passes
 * back through the router. */
Test(check_scout, right_results) {
    static const struct {
        const char *line, *tensors;
    } layers[] = {
        {ROUTED, "reference:fp32: O, dX, dW1, dW2"},
        {ROUTED " pass=fwd", "reference:fp32: O"},
        {"T=900 d=24 n=16 E=6 K=2 dtype=fp32 route=uniform bias=1 seed=4",
         "reference:fp32: O, dX, dW1, db1, dW2"},
        {"T=900 d=24 n=16 E=6 K=2 dtype=fp32 score=sigmoid shared=8 glu=interleaved seed=5",
         "reference:fp32: O, dX, dW1, dW2, dW1_shared, dW2_shared"},
        {"T=900 d=24 n=16 E=6 K=1 dtype=fp32 act=relu2 on=input seed=6",
         "reference:fp32: O, dX, dW1, dW2"},
    };
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        results r;
        open_results(&r, layers[i].line);
        expect(&r, "reference:fp32", NULL, layers[i].tensors);
        expect(&r, "none", NULL, "");
        cr_expect_eq(r.seen.messages, 0, "%s", r.seen.text);
        close_results(&r);
    }
}

/* One place each that the sample does not have. */
Test(check_scout, one_wrong_place) {
    static const struct {
        moe_tensor_id id;
        int64_t row, width; /* the first of `width` elements */
        double factor;
    } wrong[] = {
        {MOE_T_O, 417, 24, -1},                   /* a token's sum negated: as large as any */
        {MOE_T_O, 417 * 24 + 5, 1, 1.01},         /* one element, by a hundredth */
        {MOE_T_DX, 418, 24, -1},                  /* a token's gradient negated */
        {MOE_T_DW1, 3 * 32 + 9, 24, 0},           /* a unit's row left out */
        {MOE_T_DW2, (3 * 24 + 2) * 16 + 9, 1, 2}, /* one element of a unit's column */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        results r;
        open_results(&r, ROUTED);
        const int64_t first = wrong[i].width > 1 ? wrong[i].row * wrong[i].width : wrong[i].row;
        for (int64_t k = 0; k < wrong[i].width; k++)
            *at(&r, wrong[i].id, first + k) *= wrong[i].factor;
        expect(&r, "none", NULL, "");
        expect(&r, "reference:fp32", moe_tensor_name(wrong[i].id),
               "reference:fp32: O, dX, dW1, dW2");
        close_results(&r);
    }
}

/* The cause is looked for where the results are wrong. */
Test(check_scout, explains) {
    results r;
    open_results(&r, ROUTED);
    for (int64_t i = (int64_t)417 * 24; i < (int64_t)418 * 24; i++)
        *at(&r, MOE_T_O, i) *= -1;
    r.params.no_explanation = false;
    moe_check_result *result = judge(&r, "reference:fp32");
    cr_expect_str_eq(result->explanation.kind, "factor_by_token");
    cr_expect(strstr(result->explanation.text, "417"), "%s", result->explanation.text);
    moe_check_result_destroy(&result);
    close_results(&r);
}

/* One in 16 bits is nearer to the truth than what is wrong. */
Test(check_scout, scout_in_16_bits) {
    results r;
    open_results(&r, ROUTED);
    expect(&r, "reference:bf16", NULL, "reference:bf16: O, dX, dW1, dW2");
    for (int64_t i = (int64_t)418 * 24; i < (int64_t)419 * 24; i++)
        *at(&r, MOE_T_DX, i) *= -1;
    expect(&r, "none", NULL, "");
    expect(&r, "reference:bf16", "dX", "reference:bf16: O, dX, dW1, dW2");
    close_results(&r);
}

/* A run that is wrong itself says nothing: right results pass, with a warning and without the
 * claim that they were looked through. */
Test(check_scout, wrong_scout) {
    results r;
    char spec[512];
    open_results(&r, ROUTED);
    snprintf(spec, sizeof spec, "%s/backends/faulty/faulty.so:fp32.O_scaled",
             getenv("MOEREF_BUILD_ROOT"));
    expect(&r, spec, NULL, "");
    cr_expect(strstr(r.seen.text, "is not right itself (O: NMSE"), "%s", r.seen.text);
    close_results(&r);
}

/* One that does not exist is an error, not a pass. */
Test(check_scout, no_such_backend) {
    results r;
    open_results(&r, ROUTED);
    const moe_named_tensor O = {"O", r.right->out.t[MOE_T_O]};
    moe_safetensors *file = NULL;
    moe_check_result *result = NULL;
    r.params.scout = "nobody";
    cr_assert_eq(moe_safetensors_of(&O, 1, "results", &r.log, &file), MOE_OK);
    cr_expect_eq(moe_check_tensors(file, "results", r.problem, MOE_F32, &r.params, &r.log, &result),
                 MOE_E_NOTFOUND);
    cr_expect(strstr(r.seen.text, "nobody"), "%s", r.seen.text);
    moe_check_result_destroy(&result);
    moe_safetensors_close(&file);
    close_results(&r);
}
