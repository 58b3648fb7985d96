/* The checker checked: what a backend tells beside its results, of its routing, its runs and its
 * stages, and what is kept of a failure. */
#include "broken_check.h"
#include "moeref/safetensors.h"
#include "temporary.h"

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
