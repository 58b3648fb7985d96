/* Failures in files: the second judgement is the first one, without the subject. */
#define _GNU_SOURCE
#include "check/bundle/bundle.h"
#include "drawn.h"
#include "moeref/check.h"
#include "moeref/reference.h"
#include "moeref/safetensors.h"
#include "scratch.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The right results of `problem` in float32, but for those of pairs, whose number a file would have
 * to tell, with one tensor's first elements wrong. */
static void write_outputs(const moe_problem *problem, moe_tensor_id wrong) {
    moe_reference_result *right = NULL;
    moe_named_tensor list[MOE_T_COUNT];
    size_t n = 0;
    moe_reference_params params = {.tokens = problem->T,
                                   .precision = MOE_F32,
                                   .plan = problem->plan,
                                   .plan_given = problem->plan != NULL,
                                   .seed = problem->seed};
    cr_assert_eq(moe_reference_run(&problem->layer, &problem->in, &params, NULL, &right), MOE_OK);
    for (int i = 0; i < 8; i++)
        moe_store(right->out.t[wrong].data, MOE_F32, (size_t)i, 5);
    for (int id = 0; id < MOE_T_COUNT; id++)
        if (right->out.t[id].data && !moe_tensor_is_of_pairs((moe_tensor_id)id))
            list[n++] = (moe_named_tensor){moe_tensor_name(id), right->out.t[id]};
    cr_assert_eq(moe_safetensors_write("outputs.safetensors", list, n, NULL, 0, NULL), MOE_OK);
    moe_reference_result_destroy(&right);
}

/* The one bundle in the folder; the caller frees it. */
static char *bundle_path(void) {
    struct dirent **entry;
    char *path = NULL;
    int n = scandir("dump", &entry, NULL, alphasort);
    cr_assert_eq(n, 3, "%d entries", n); /* ".", ".." and the file */
    cr_assert(asprintf(&path, "dump/%s", entry[2]->d_name) > 0);
    for (int i = 0; i < n; i++)
        free(entry[i]);
    free(entry);
    return path;
}

static void expect_same_verdict(const moe_check_result *a, const moe_check_result *b,
                                const char *line) {
    cr_expect_eq(a->verdict, b->verdict, "%s", line);
    cr_expect_str_eq(a->why, b->why);
    cr_expect_str_eq(a->first_wrong_stage, b->first_wrong_stage);
    for (size_t i = 0; i < a->n_tensors; i++) {
        const moe_tensor_verdict *v = &a->tensor[i], *w = NULL;
        for (size_t k = 0; k < b->n_tensors; k++)
            if (strcmp(v->name, b->tensor[k].name) == 0)
                w = &b->tensor[k];
        cr_assert(w || v->verdict == MOE_VERDICT_SKIP, "%s: %s is lost", line, v->name);
        cr_expect(!w || (w->verdict == v->verdict && w->nmse == v->nmse && w->max_z == v->max_z),
                  "%s: %s %s", line, v->name, w ? w->why : "");
    }
}

static void judge_twice(moe_problem *problem, moe_tensor_id wrong, bool explained) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_check_params params = {.dump_dir = "dump", .no_explanation = !explained};
    moe_check_params again = {.no_explanation = !explained};
    moe_check_result *first = NULL, *second = NULL;
    scratch_enter();
    write_outputs(problem, wrong);
    cr_assert_eq(moe_check_outputs("outputs.safetensors", problem, -1, &params, &log, &first),
                 MOE_OK, "%s", seen.text);
    cr_assert_eq(first->verdict, MOE_VERDICT_FAIL, "%s", problem->name);
    char *path = bundle_path();
    cr_assert_eq(moe_check_bundle(path, &again, &log, &second), MOE_OK, "%s", seen.text);
    expect_same_verdict(first, second, problem->name);
    cr_expect_str_eq(first->explanation.text, second->explanation.text);
    cr_expect_eq(first->explanation.tried > 0, explained);
    cr_expect(strstr(second->reproduce, path), "%s", second->reproduce);
    free(path);
    moe_check_result_destroy(&first);
    moe_check_result_destroy(&second);
    scratch_leave();
}

Test(check_bundle, drawn_cases) {
    static const char *const lines[] = {
        "T=12 d=16 n=8 E=5 K=2 dtype=fp32 renorm=1 seed=3",
        "T=12 d=16 n=8 E=5 K=2 dtype=fp32 route=zipf:1 seed=4",
        "T=12 d=16 n=8 E=4 K=2 dtype=fp32 zero=2 shared=8 shared_gate=1 bias=1 seed=5",
        "T=12 d=16 n=8 E=8 K=2 dtype=fp32 score=sigmoid select=group_topk groups=4 topk_groups=2 "
        "select_bias=1 renorm=1 eps=0.5 scale=2.5 seed=6",
        "T=12 d=16 n=8 E=4 K=2 dtype=fp32 act=swiglu_clamp limit=1 alpha=1.5 glu=interleaved "
        "seed=7",
        "T=24 d=16 n=8 E=4 K=2 dtype=fp32 select=token_rounding tile=8 rounding=sr seed=8",
        "T=12 d=16 n=8 E=4 K=2 dtype=fp32 score=sparsemixer jitter=0.1 seed=9",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        moe_problem *problem = drawn(lines[i]);
        judge_twice(problem, i % 2 ? MOE_T_O : MOE_T_DW1, i < 2);
        moe_problem_destroy(&problem);
    }
}

/* A result that cannot be kept, as it is of another shape, is wrong the second time too. */
Test(check_bundle, of_another_shape) {
    moe_problem *problem = drawn("T=12 d=16 n=8 E=5 K=2 dtype=fp32 renorm=1 seed=3");
    const moe_check_params params = {.dump_dir = "dump", .no_explanation = true};
    moe_reference_result *right = NULL;
    moe_check_result *first = NULL, *second = NULL;
    cr_assert_eq(moe_reference_problem(problem, 1, NULL, &right), MOE_OK);
    moe_tensor *out = right->out.t;
    out[MOE_T_DX].shape[0]--;
    const moe_named_tensor list[] = {{"O", out[MOE_T_O]}, {"dX", out[MOE_T_DX]}};
    scratch_enter();
    cr_assert_eq(moe_safetensors_write("outputs.safetensors", list, 2, NULL, 0, NULL), MOE_OK);
    cr_assert_eq(moe_check_outputs("outputs.safetensors", problem, MOE_F32, &params, NULL, &first),
                 MOE_OK);
    char *path = bundle_path();
    cr_assert_eq(moe_check_bundle(path, NULL, NULL, &second), MOE_OK);
    cr_expect_eq(second->verdict, MOE_VERDICT_FAIL);
    cr_expect(strstr(first->why, "dX: has shape [11, 16]"), "%s", first->why);
    cr_expect(strstr(second->why, first->why), "%s", second->why);
    free(path);
    moe_check_result_destroy(&first);
    moe_check_result_destroy(&second);
    scratch_leave();
    moe_reference_result_destroy(&right);
    moe_problem_destroy(&problem);
}

/* Layers that no case line drew are written as one all the same: golden layers, every third
 * family's (a failure is explained twice, which takes a second). */
Test(check_bundle, checkpoints) {
    struct dirent **entry;
    char root[1024], path[2048];
    snprintf(root, sizeof root, "%s/golden/hf", getenv("MOEREF_SOURCE_ROOT"));
    int n = scandir(root, &entry, NULL, alphasort), layers = 0;
    for (int i = 0; i < n; i++) {
        moe_problem *problem = NULL;
        snprintf(path, sizeof path, "%s/%s", root, entry[i]->d_name);
        if (strchr(entry[i]->d_name, '.') == NULL) {
            cr_assert_eq(moe_problem_from_hf(path, -1, 0, NULL, &problem), MOE_OK, "%s", path);
            moe_tensors_destroy(&problem->expected); /* a bundle holds none */
            moe_plan_destroy(&problem->expected_plan);
            judge_twice(problem, MOE_T_O, false);
            moe_problem_destroy(&problem);
            layers++;
        }
        free(entry[i]);
    }
    free(entry);
    cr_expect_geq(layers, 12);
}

static void expect_refused(const moe_named_tensor *list, size_t n, const char *layer,
                           const char *arithmetic, const char *words) {
    const char *const metadata[][2] = {{"layer", layer}, {"arithmetic", arithmetic}};
    capture seen;
    moe_log log = capture_log(&seen);
    moe_check_result *r = NULL;
    cr_assert_eq(moe_safetensors_write("bundle.safetensors", list, n, metadata, 2, NULL), MOE_OK);
    cr_expect_neq(moe_check_bundle("bundle.safetensors", NULL, &log, &r), MOE_OK, "%s", words);
    cr_expect(strstr(seen.text, words), "'%s' has no '%s'", seen.text, words);
    cr_expect_null(r);
}

Test(check_bundle, damaged_files) {
    static const char line[] = "T=3 d=4 n=2 E=2 K=1 dtype=fp32 pass=fwd";
    static int32_t numbers[12];
    static float values[12];
    moe_named_tensor x = {"in.X", {values, MOE_F32, 2, {3, 4}}};
    moe_named_tensor o = {"got.O", {numbers, MOE_I32, 2, {3, 4}}};
    moe_named_tensor index = {"got.topk_index", {numbers, MOE_I32, 2, {3, 4}}};
    moe_named_tensor turned = {"in.X", {values, MOE_F32, 2, {4, 3}}};
    scratch_enter();
    expect_refused(&x, 1, "T=3", "fp32", "needs");
    expect_refused(&x, 1, line, "fp33", "not what check --dump-on-fail writes");
    expect_refused(&o, 1, line, "fp32", "got.O is not of a floating type");
    expect_refused(&index, 1, line, "fp32", "no floating got.topk_weight");
    expect_refused(&turned, 1, line, "fp32", "in.X has shape [4, 3]");
    scratch_leave();
}
