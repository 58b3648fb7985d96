/* The checker checked: every fault of the broken backend must fail, for the right reason, at the
 * right tensor; without a fault the same backend must pass. */
#include "controls.h"
#include "drawn.h"
#include "moeref/check.h"
#include "moeref/safetensors.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static moe_backends *all;

static moe_check_result *check_on(const char *plugin, const char *fault, const char *line,
                                  const moe_check_params *params) {
    char path[1024];
    moe_backend *backend = NULL;
    moe_check_result *result = NULL;
    moe_check_params quick = params ? *params : (moe_check_params){.repeats = 0};
    moe_problem *problem = drawn(line);
    quick.no_explanation = true; /* test_explain.c is for causes */
    moe_open_params open = {.variant = fault, .threads = 1};
    const char *build = getenv("MOEREF_BUILD_ROOT");
    cr_assert(build, "MOEREF_BUILD_ROOT is not set: run through meson test");
    snprintf(path, sizeof path, "%s/tests/conformance/%s.so", build, plugin);
    if (!all)
        cr_assert_eq(moe_backends_load("", NULL, &all), MOE_OK);
    cr_assert_eq(moe_backend_open(all, path, &open, NULL, &backend), MOE_OK, "%s", path);
    cr_assert_eq(moe_check_backend(backend, problem, &quick, NULL, &result), MOE_OK, "%s", fault);
    moe_backend_close(&backend);
    moe_problem_destroy(&problem);
    return result;
}

static moe_check_result *check(const char *fault, const char *line,
                               const moe_check_params *params) {
    return check_on("moe_broken", fault, line, params);
}

static const moe_tensor_verdict *entry(const moe_check_result *r, const char *name) {
    for (size_t i = 0; i < r->n_tensors; i++)
        if (strcmp(r->tensor[i].name, name) == 0)
            return &r->tensor[i];
    return NULL;
}

/* `fault` is what was opened: with the arithmetic, where it is not fp32. */
static void expect_fails(const control *k, const char *fault, const moe_check_result *r) {
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%s: %s (%s)", fault, moe_verdict_str(r->verdict),
                 r->why);
    cr_expect(strstr(r->why, k->words), "%s: '%s' says nothing of '%s'", fault, r->why, k->words);
    cr_expect_eq(strncmp(r->why, k->tensor, strlen(k->tensor)), 0, "%s: '%s' is not about %s",
                 fault, r->why, k->tensor);
    cr_expect_str_eq(r->first_wrong_stage, k->stage, "%s", fault);
    const moe_tensor_verdict *v = entry(r, k->tensor);
    if (!*k->tensor)
        return;
    cr_assert(v, "%s: no entry for %s", fault, k->tensor);
    cr_expect_eq(v->verdict, MOE_VERDICT_FAIL, "%s: %s is '%s'", fault, k->tensor,
                 moe_verdict_str(v->verdict));
    cr_expect(strstr(v->why, k->words), "%s: '%s'", fault, v->why);
}

Test(negative, every_fault_fails) {
    for (size_t i = 0; i < sizeof controls / sizeof *controls; i++) {
        moe_check_result *r = check(controls[i].fault, controls[i].line, NULL);
        expect_fails(&controls[i], controls[i].fault, r);
        moe_check_result_destroy(&r);
    }
}

/* The same under the looser gates of bf16 and fp16; but for a last bit that they do not have. */
Test(negative, every_fault_fails_in_sixteen_bits) {
    static const char *const types[] = {"bf16", "fp16"};
    for (size_t i = 0; i < 2 * sizeof controls / sizeof *controls; i++) {
        const control *k = &controls[i / 2];
        char fault[40];
        if (strcmp(k->fault, "random") == 0)
            continue;
        snprintf(fault, sizeof fault, "%s.%s", types[i % 2], k->fault);
        moe_check_result *r = check(fault, k->line, NULL);
        expect_fails(k, fault, r);
        moe_check_result_destroy(&r);
    }
}

/* The same cases without a fault: what fails above fails for its fault. */
Test(negative, no_fault_passes) {
    static const char *const lines[] = {PLAIN, BIASED, KINKED, GIVEN, EMPTY};
    static const char *const types[] = {"", "bf16.", "fp16."};
    for (size_t i = 0; i < 3 * sizeof lines / sizeof *lines; i++) {
        moe_check_result *r = check(types[i % 3], lines[i / 3], NULL);
        cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s%s: %s", types[i % 3], lines[i / 3], r->why);
        cr_expect_str_eq(r->first_wrong_stage, "");
        cr_expect_gt(r->checked_elements, 1000);
        moe_check_result_destroy(&r);
    }
}

/* A local fault is located: element, expert, rows. */
Test(negative, faults_are_located) {
    moe_check_result *r = check("sign", PLAIN, NULL);
    const moe_tensor_verdict *v = entry(r, "O");
    cr_expect_eq(v->worst_index[0], 2);
    cr_expect_eq(v->worst_index[1], 5);
    cr_expect_float_eq(v->got, -v->want, 1e-5 * (v->got < 0 ? -v->got : v->got));
    cr_expect_eq(v->worst_group, 2);
    cr_expect(strstr(v->where, "token 2 (of 24)"), "%s", v->where);
    moe_check_result_destroy(&r);

    r = check("tail", PLAIN, NULL);
    cr_expect(strstr(entry(r, "O")->where, "routed to expert 1"), "%s", entry(r, "O")->where);
    cr_expect(strstr(entry(r, "Y")->where, "of expert 1"), "%s", entry(r, "Y")->where);
    cr_expect_eq(entry(r, "Y")->worst_expert, 1);
    cr_expect_eq(entry(r, "H")->verdict, MOE_VERDICT_PASS);
    moe_check_result_destroy(&r);

    r = check("expert_sign", PLAIN, NULL);
    v = entry(r, "dW2");
    cr_expect_eq(v->worst_group, 1);
    cr_expect_eq(v->worst_expert, 1);
    cr_expect(strstr(v->where, "expert 1 (of 4)"), "%s", v->where);
    moe_check_result_destroy(&r);
}

/* At sizes of real layers the gates are those of the table, not lifted: 1.2 % off is a bf16 NMSE of
 * 1.4e-4, over 6e-5, and 0.16 % an fp16 NMSE of 2.6e-6, over 1e-6, in every result. */
Test(negative, gates_bite) {
    static const char *const names[] = {"O", "dX", "dS", "dW1", "dW2", "dW_r"};
    static const char *const faults[] = {"bf16.scale_little", "fp16.scale_little"};
    moe_check_params sampled = {.sample_above_flops = 1};
    const char *line = "T=128 d=128 n=96 E=4 K=2 renorm=1 seed=12";
    for (int k = 0; k < 4; k++) {
        const moe_check_params *params = k / 2 ? &sampled : NULL;
        moe_check_result *r = check(faults[k % 2], line, params);
        for (int i = 0; i < 6; i++) /* the sampled dW_r, of its own dS, is rounded twice */
            cr_expect_eq(entry(r, names[i])->verdict, MOE_VERDICT_FAIL, "%s: %s: NMSE %.2e",
                         faults[k % 2], names[i], entry(r, names[i])->nmse);
        moe_check_result_destroy(&r);
        r = check(k % 2 ? "fp16." : "bf16.", line, params);
        cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
        moe_check_result_destroy(&r);
    }
}

/* With the weight on the input some 5 pre-activations of a token lie where rounding to bf16 may
 * carry them across relu's kink: no row of dX has one truth, and none is let off. */
Test(negative, kinks_hide_no_fault) {
    static const char *const faults[] = {"bf16.zero", "bf16.second_row", "bf16.scale_little"};
    const char *line = "T=24 d=256 n=256 E=4 K=4 act=reglu on=input seed=3";
    for (int i = 0; i < 6; i++) {
        moe_check_params params = {.sample_above_flops = i % 2 ? 1 : -1};
        moe_check_result *r = check(faults[i / 2], line, &params);
        cr_expect_eq(entry(r, "dX")->verdict, MOE_VERDICT_FAIL, "%s", faults[i / 2]);
        moe_check_result_destroy(&r);
        r = check("bf16.", line, &params);
        cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
        cr_expect_eq(entry(r, "dX")->not_compared, 0);
        if (i % 2 == 0) /* the sample leaves such units out */
            cr_expect_eq(entry(r, "dW1")->not_compared, 0);
        moe_check_result_destroy(&r);
    }
}

/* Faults that a sampled oracle must see too: those that are everywhere, and those in what it reads.
 */
Test(negative, sampled_oracle_fails_too) {
    static const control sampled[] = {
        {"all_zero", GIVEN, "O", "NMSE", "H"},
        {"zero", PLAIN, "dX", "NMSE", "dX"},
        {"scale", PLAIN, "O", "NMSE", "O"},
        {"swap", PLAIN, "O", "NMSE", "H"},
        {"k_block", PLAIN, "O", "NMSE", "H"},
        {"activation", PLAIN, "O", "NMSE", "A"},
        {"expert_sign", PLAIN, "dW2", "NMSE", "dW2"},
        {"router_row", PLAIN, "dW_r", "NMSE", "dW_r"},
        {"nan", PLAIN, "dW2", "not finite", "dW2"},
        {"unwritten", PLAIN, "dX", "written", "dX"},
        {"not_zero", EMPTY, "dW1", "exactly 0", "dW1"},
        {"routing", PLAIN, "topk_index", "token 1:", "topk_index"},
        {"random", PLAIN, "dS", "not deterministic", "dS"},
    };
    moe_check_params params = {.sample_above_flops = 1};
    for (size_t i = 0; i < sizeof sampled / sizeof *sampled; i++) {
        moe_check_result *r = check(sampled[i].fault, sampled[i].line, &params);
        cr_expect_neq(r->sampled[0], '\0');
        expect_fails(&sampled[i], sampled[i].fault, r);
        moe_check_result_destroy(&r);
    }
    moe_check_result *r = check("", PLAIN, &params);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    moe_check_result_destroy(&r);
}

/* Of three runs the second tells other experts, and only tells; or one pair less. */
Test(negative, every_run_must_choose_alike) {
    moe_check_params params = {.repeats = 3};
    for (int i = 0; i < 2; i++) {
        moe_check_result *r = check(i ? "dropping" : "moody", PLAIN, &params);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%s", r->why);
        cr_expect(strstr(r->why, "another run chose other experts"), "%s", r->why);
        cr_expect_eq(entry(r, "topk_index")->verdict, MOE_VERDICT_FAIL);
        moe_check_result_destroy(&r);
    }
}

/* The run that differed is the one that is shown, however many follow: every one is judged. */
Test(negative, the_run_that_differs_is_shown) {
    moe_check_params params = {.repeats = 4};
    moe_check_result *r = check("once", PLAIN, &params);
    const moe_tensor_verdict *v = entry(r, "dS");
    cr_expect(strstr(v->why, "not deterministic: another run gave"), "%s", v->why);
    cr_expect_eq(v->got, 2 * v->want, "%s", v->why);
    moe_check_result_destroy(&r);
    r = check("once_undeclared", PLAIN, &params);
    cr_expect(strstr(entry(r, "dS")->why, "later run: NMSE"), "%s", entry(r, "dS")->why);
    cr_expect(strstr(entry(r, "dX")->why, "later run: 1 elements are not"), "%s", r->why);
    moe_check_result_destroy(&r);
}

/* The reproducing line opens the same backend and selects the same case. */
Test(negative, reproducing_line) {
    moe_check_params params = {.spec = "./moe_broken.so:row"};
    moe_check_result *r = check("row", GIVEN, &params);
    cr_expect(strstr(r->reproduce, "moeref check --backend ./moe_broken.so:row --case \"T=24"),
              "%s", r->reproduce);
    moe_check_result_destroy(&r);
    r = check("row", GIVEN, NULL);
    cr_expect(strstr(r->reproduce, "moeref check --backend broken:row --case \"T=24"), "%s",
              r->reproduce);
    moe_check_result_destroy(&r);
}

/* Results may be right: a stage that no table holds is wrong by itself, and is said after what is
 * wrong with the results. */
Test(negative, every_timed_stage_is_in_the_table) {
    moe_check_result *r = check("stage_name", PLAIN, NULL);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(r->why, "timings: \"up_proj\" is no stage"), "%s", r->why);
    cr_expect_eq(entry(r, "O")->verdict, MOE_VERDICT_PASS);
    cr_expect_eq(r->first_wrong_stage[0], '\0');
    moe_check_result_destroy(&r);
    r = check("endless_name", PLAIN, NULL);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(r->why, "\"AAAAAAAAAAAAAAAAAAAAAAA\" is no stage"), "%s", r->why);
    moe_check_result_destroy(&r);
}

Test(negative, refusals_and_errors_are_no_passes) {
    moe_check_result *r = check("refuse", PLAIN, NULL);
    cr_expect_eq(r->verdict, MOE_VERDICT_SKIP);
    cr_expect(strstr(r->why, "refuses everything by order"), "%s", r->why);
    moe_check_result_destroy(&r);
    r = check("forward", PLAIN, NULL);
    cr_expect_eq(r->verdict, MOE_VERDICT_ERROR);
    cr_expect(strstr(r->why, "forward"), "%s", r->why);
    moe_check_result_destroy(&r);
}

/* A backend that keeps its routing to itself is judged with the oracle's: it passes when it chooses
 * alike, and its O tells when it does not. The rest is judged with the choice that O tells of. */
Test(negative, silent_routing) {
    moe_check_result *r = check_on("moe_broken_silent", "", PLAIN, NULL);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect_null(entry(r, "topk_index"));
    cr_expect_eq(entry(r, "topk_weight")->verdict, MOE_VERDICT_PASS);
    moe_check_result_destroy(&r);
    r = check_on("moe_broken_silent", "routing", PLAIN, NULL);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(r->why, "routing: token 1 behaves as if it had chosen {"), "%s", r->why);
    cr_expect_str_eq(r->first_wrong_stage, "topk_index");
    cr_expect_eq(entry(r, "topk_index")->verdict, MOE_VERDICT_FAIL);
    cr_expect_eq(entry(r, "O")->verdict, MOE_VERDICT_PASS);
    cr_expect_eq(entry(r, "dW1")->verdict, MOE_VERDICT_PASS);
    moe_check_result_destroy(&r);
}

/* What overflows where nothing was computed may be right or wrong: no pass, nor nothing at all. In
 * a type that reaches so far it is wrong. */
Test(negative, overflow_beside_the_sample_is_said) {
    static const char wide[] = "T=400 d=16 n=8 E=4 K=2 seed=171";
    const moe_check_params params = {.sample_above_flops = 1};
    moe_check_result *r = check("fp16.overflow", wide, &params);
    cr_expect_eq(r->verdict, MOE_VERDICT_MISTRUSTED, "%s", r->why);
    cr_expect(strstr(r->why, "beside the sample O (largest 3.0e+04, 1 infinite)"), "%s", r->why);
    moe_check_result_destroy(&r);
    r = check("bf16.overflow", wide, &params);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%s", r->why);
    moe_check_result_destroy(&r);
}

/* Of a plan that contradicts itself nothing is read, but what has no pairs is judged. */
Test(negative, malformed_plan) {
    static const struct {
        const char *fault, *words;
    } faults[] = {{"malformed", "plan: offsets of expert 0 run from 0 to"},
                  {"twice", "plan: expert 0 has token "},
                  {"stranger", "of expert 0, names token 24 of 24"}};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        moe_check_result *r = check(faults[i].fault, PLAIN, NULL);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
        cr_expect_eq(strncmp(r->why, "topk_index: the backend's ", 26), 0, "%s", r->why);
        cr_expect(strstr(r->why, faults[i].words), "'%s' lacks '%s'", r->why, faults[i].words);
        cr_expect_eq(entry(r, "O")->verdict, MOE_VERDICT_PASS);
        cr_expect_eq(entry(r, "dW1")->verdict, MOE_VERDICT_PASS);
        cr_expect_null(entry(r, "dS"));
        moe_check_result_destroy(&r);
    }
}

/* What was seen is kept: inputs, results and truth in one file. */
Test(negative, failures_are_dumped) {
    char dir[TEMPORARY_BYTES], path[1024];
    temporary_folder(dir);
    moe_check_params params = {.dump_dir = dir};
    moe_check_result *r = check("row", PLAIN, &params);
    cr_assert_eq(r->verdict, MOE_VERDICT_FAIL);
    moe_check_result_destroy(&r);
    snprintf(path, sizeof path, "ls %s/broken_row-*.safetensors > %s/list", dir, dir);
    cr_assert_eq(system(path), 0);
    snprintf(path, sizeof path, "%s/list", dir);
    FILE *list = fopen(path, "r");
    cr_assert(list && fgets(path, sizeof path, list));
    fclose(list);
    path[strcspn(path, "\n")] = '\0';
    moe_safetensors *file = NULL;
    moe_tensor got, want, x;
    cr_assert_eq(moe_safetensors_open(path, NULL, &file), MOE_OK);
    cr_expect_eq(moe_safetensors_get(file, "in.X", &x), MOE_OK);
    cr_expect_eq(moe_safetensors_get(file, "got.O", &got), MOE_OK);
    cr_expect_eq(moe_safetensors_get(file, "want.O", &want), MOE_OK);
    cr_expect_eq(moe_load(got.data, got.dtype, 4 * 32), 0);
    cr_expect_neq(moe_load(want.data, want.dtype, 4 * 32), 0);
    cr_expect(strstr(moe_safetensors_metadata(file, "why"), "O: "));
    moe_safetensors_close(&file);
    temporary_remove(dir);
}
