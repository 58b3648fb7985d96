/* Recipes: a kernel that rounds where a recipe does passes under it and is told which it was; what
 * every recipe keeps in fp32 must be fp32; a type of storage is no arithmetic. */
#include "check/judge.h"
#include "check/verdict/result.h"
#include "check/verdict/selector.h"
#include "drawn.h"
#include "entry.h"
#include "moeref/reference.h"
#include "moeref/safetensors.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t points_of(const char *recipe) {
    const moe_recipe *r = moe_recipe_find(recipe);
    cr_assert(r, "%s", recipe);
    return r->points;
}

static moe_reference_result *play(const moe_problem *p, moe_dtype arithmetic, uint32_t points) {
    const moe_recipe recipe = {"test", "", points, 0};
    moe_reference_params params = {.tokens = p->T,
                                   .precision = (int32_t)arithmetic,
                                   .threads = 1,
                                   .plan = p->plan,
                                   .plan_given = p->plan != NULL,
                                   .seed = p->seed,
                                   .recipe = &recipe};
    moe_reference_result *res = NULL;
    cr_assert_eq(moe_reference_run(&p->layer, &p->in, &params, NULL, &res), MOE_OK);
    return res;
}

/* The verdict on a kernel with these points; `named` as --recipe. */
static moe_check_result *judge(const char *line, moe_dtype arithmetic, uint32_t points,
                               const char *named) {
    moe_problem *p = drawn(line);
    moe_reference_result *res = play(p, arithmetic, points);
    moe_check_params params = {.no_explanation = true, .threads = 1, .recipe = named};
    moe_check_result *r = NULL;
    cr_assert_eq(moe_int_result_create(p, "test", "--backend test", NULL, &r), MOE_OK);
    moe_int_subject subject = {.problem = p,
                               .arithmetic = arithmetic,
                               .got = res->out,
                               .plan = p->plan ? NULL : res->plan};
    cr_assert_eq(moe_int_judge(&subject, &params, NULL, r), MOE_OK);
    moe_reference_result_destroy(&res);
    moe_problem_destroy(&p);
    return r;
}

/* Eager PyTorch stores s*dO before the product with W2: judged by A' = s*A, dW1 has z 12 to 18. */
Test(check_recipes, eager) {
    static const int sizes[] = {64, 80, 96};
    for (int seed = 0; seed < 24; seed++) {
        char line[200];
        snprintf(line, sizeof line, "T=%d d=%d n=16 E=%d K=2 dtype=bf16 renorm=1 seed=%d",
                 sizes[seed % 3], sizes[seed / 3 % 3], seed % 2 ? 8 : 16, seed);
        moe_check_result *r = judge(line, MOE_BF16, points_of("eager"), NULL);
        cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s: %s", line, r->why);
        cr_expect_str_eq(r->recipe, "eager", "%s: %s", line, r->recipe);
        moe_check_result_destroy(&r);
    }
}

Test(check_recipes, named_in_the_report) {
    const char *line = "T=128 d=128 n=32 E=8 K=2 dtype=bf16 renorm=1 seed=3";
    moe_check_result *r = judge(line, MOE_BF16, points_of("eager"), "moeref");
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect_str_eq(r->suggestion, "--recipe eager would pass");
    moe_check_result_destroy(&r);
    r = judge(line, MOE_BF16, points_of("eager"), "eager");
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect_str_eq(r->recipe_why, "--recipe");
    moe_check_result_destroy(&r);
    r = judge(line, MOE_BF16, points_of("moeref"), NULL);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect_str_eq(r->recipe, "moeref");
    moe_check_result_destroy(&r);
}

/* What is wrong under every recipe is no reason to judge the others by a recipe that is not theirs.
 */
typedef struct spoil {
    moe_tensor_id id;
    enum { SHAPE, NUMBER, SIZE, IDS } how;
    const char *recipe; /* that the report names */
    const char *why;
} spoil;

static moe_check_result *judge_spoilt(const spoil *s) {
    moe_problem *p = drawn("T=128 d=128 n=32 E=8 K=2 dtype=bf16 renorm=1 seed=3");
    moe_reference_result *res = play(p, MOE_BF16, points_of("eager"));
    moe_check_params params = {.no_explanation = true, .threads = 1};
    moe_check_result *r = NULL;
    moe_tensor *t = s->how == IDS ? NULL : &res->out.t[s->id];
    if (s->how == NUMBER)
        moe_store(t->data, t->dtype, 7, (double)NAN);
    if (s->how == SIZE)
        for (int64_t i = 0; i < moe_tensor_count(t); i++)
            moe_store(t->data, t->dtype, (size_t)i, 1.5 * moe_load(t->data, t->dtype, (size_t)i));
    cr_assert_eq(moe_int_result_create(p, "test", "--backend test", NULL, &r), MOE_OK);
    moe_int_subject subject = {
        .problem = p, .arithmetic = MOE_BF16, .got = res->out, .plan = res->plan};
    if (s->how == SHAPE) { /* as the reader of a file does */
        subject.got.t[s->id] = (moe_tensor){0};
        moe_int_entry_fail(moe_int_result_entry(r, moe_tensor_name(s->id)), "has another shape");
    }
    if (s->how == IDS) {
        subject.plan = NULL;
        moe_int_entry_fail(moe_int_result_entry(r, "topk_index"), "no ids");
    }
    cr_assert_eq(moe_int_judge(&subject, &params, NULL, r), MOE_OK);
    moe_reference_result_destroy(&res);
    moe_problem_destroy(&p);
    return r;
}

Test(check_recipes, one_wrong_result_beside_those_of_a_recipe) {
    static const spoil rows[] = {
        {MOE_T_DX, SHAPE, "eager", "dX: has another shape"},
        {MOE_T_DX, NUMBER, "eager", "dX: 1 elements are not finite"},
        {MOE_T_DW2, NUMBER, "eager", "dW2: 1 elements are not finite"},
        {MOE_T_COUNT, IDS, "compiled", "topk_index: no ids"}, /* whose sums nobody can know */
        {MOE_T_DW2, SIZE, "eager", "dW2: NMSE 2.50e-01"},     /* which no rounding makes */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        moe_check_result *r = judge_spoilt(&rows[i]);
        const char *name = rows[i].how == IDS ? "topk_index" : moe_tensor_name(rows[i].id);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%zu", i);
        cr_expect(strstr(r->why, rows[i].why), "%zu: %s", i, r->why);
        cr_expect_str_eq(r->recipe, rows[i].recipe, "%zu: %s, %s", i, r->recipe, r->recipe_why);
        cr_expect_eq(entry(r, name)->verdict, MOE_VERDICT_FAIL, "%zu", i);
        cr_expect_eq(entry(r, "O")->verdict, MOE_VERDICT_PASS, "%zu: %s", i, entry(r, "O")->why);
        cr_expect(strstr(r->recipe_why, "explains the rest; moeref: "), "%zu: %s", i,
                  r->recipe_why);
        cr_expect_str_empty(r->suggestion, "%zu", i);
        moe_check_result_destroy(&r);
    }
}

/* One hidden unit: a stored dA' is a good part of what dW1 errs. */
Test(check_recipes, stored_gradient_of_the_activation) {
    moe_check_result *r = judge("T=130 d=64 n=1 E=5 K=2 bias=1 on=input route=zipf:1.2 "
                                "seed=452360 dtype=bf16",
                                MOE_BF16, points_of("unfused"), NULL);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect_str_eq(r->recipe, "unfused");
    moe_check_result_destroy(&r);
}

/* A kernel that keeps X in bf16 is right about the X that it has, to its own choice of experts. */
Test(check_recipes, rounded_inputs) {
    static const char *const recipes[] = {"sonicmoe", "eager"};
    const char *line = "T=200 d=64 n=16 E=16 K=4 dtype=fp32 renorm=1 seed=5";
    for (int i = 0; i < 2; i++) {
        moe_check_result *r = judge(line, MOE_BF16, points_of(recipes[i]), NULL);
        cr_expect_leq(r->verdict, MOE_VERDICT_AMBIGUOUS, "%s", r->why);
        cr_expect_str_eq(r->recipe, recipes[i]);
        moe_check_result_destroy(&r);
        r = judge(line, MOE_BF16, points_of(recipes[i]), "moeref");
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
        moe_check_result_destroy(&r);
    }
}

/* Logits in bf16 choose other experts: 10 of 512 tokens, all by as much as a recipe that stores
 * them allows, which is said where it was not asked for. */
Test(check_recipes, logits_in_sixteen_bits_choose) {
    const char *line = "T=512 d=96 n=8 E=64 K=4 dtype=bf16 renorm=1 seed=7";
    const uint32_t points = points_of("transformers");
    moe_check_result *r = judge(line, MOE_BF16, points, "transformers");
    cr_expect_eq(r->verdict, MOE_VERDICT_AMBIGUOUS, "%s", r->why);
    cr_expect_gt(r->ambiguous_tokens, 4);
    moe_check_result_destroy(&r);
    r = judge(line, MOE_BF16, points, NULL);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect_eq(entry(r, "topk_index")->verdict, MOE_VERDICT_FAIL);
    cr_expect_str_eq(r->suggestion, "--recipe transformers would pass");
    moe_check_result_destroy(&r);
    r = judge(line, MOE_F16, points, "transformers");
    cr_expect_leq(r->verdict, MOE_VERDICT_AMBIGUOUS, "%s", r->why);
    moe_check_result_destroy(&r);
}

/* What is rounded although every recipe promises it in fp32: the tensor and the words that say so.
 */
Test(check_recipes, promised_precision) {
    static const struct {
        uint32_t point;
        const char *tensor, *words;
    } rows[] = {
        {MOE_POINT_S, "topk_weight", "looks rounded to"},
        {MOE_POINT_LOGITS, "router_logits", "looks rounded to"},
        {MOE_POINT_DS, "dS", "looks rounded to"},
        {MOE_POINT_DLOGITS, "dW_r", "dlogits look rounded to"},
        {MOE_POINT_ADD_O, "O", "looks added in"},
    };
    static const char *const lines[] = {"T=96 d=64 n=32 E=8 K=2 renorm=1 seed=6",
                                        "T=96 d=64 n=32 E=16 K=8 score=sigmoid seed=7"};
    for (size_t i = 0; i < 4 * sizeof rows / sizeof *rows; i++) {
        moe_dtype type = i & 1 ? MOE_F16 : MOE_BF16;
        uint32_t own = points_of(i % 3 ? "moeref" : "compiled");
        moe_check_result *r = judge(lines[i / 2 % 2], type, own | rows[i / 4].point, NULL);
        const moe_tensor_verdict *v = entry(r, rows[i / 4].tensor);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%s %s", rows[i / 4].tensor, lines[i / 2 % 2]);
        cr_expect_eq(v->verdict, MOE_VERDICT_FAIL, "%s", v->name);
        cr_expect(strstr(v->why, rows[i / 4].words), "%s: %s", v->name, v->why);
        cr_expect(strstr(v->why, moe_dtype_name(type)), "%s: %s", v->name, v->why);
        moe_check_result_destroy(&r);
    }
}

/* Who rounds all that has to be asked for. */
Test(check_recipes, only_if_named) {
    const char *line = "T=96 d=64 n=32 E=8 K=2 renorm=1 seed=6";
    moe_check_result *r = judge(line, MOE_BF16, points_of("transformers"), NULL);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect_str_eq(r->suggestion, "--recipe transformers would pass");
    moe_check_result_destroy(&r);
    r = judge(line, MOE_BF16, points_of("transformers"), "transformers");
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    moe_check_result_destroy(&r);
}

/* Results of a bf16 kernel in a file of float32. */
Test(check_recipes, storage_is_no_arithmetic) {
    moe_problem *p = drawn("T=64 d=64 n=32 E=8 K=2 renorm=1 seed=8");
    moe_reference_result *res = play(p, MOE_BF16, points_of("moeref"));
    moe_named_tensor list[] = {{"O", res->out.t[MOE_T_O]}, {"dX", res->out.t[MOE_T_DX]}};
    moe_check_result *r = NULL;
    scratch_enter();
    const char *path = "it's mine.safetensors";
    cr_assert_eq(moe_safetensors_write(path, list, 2, NULL, 0, NULL), MOE_OK);
    cr_assert_eq(moe_check_outputs(path, p, -1, NULL, NULL, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
    cr_expect_eq(r->arithmetic, MOE_F32);
    cr_expect_str_eq(r->arithmetic_why, "O is stored as float32");
    cr_expect_str_eq(r->suggestion, "--arithmetic bf16 would pass, recipe moeref");
    cr_expect(strstr(entry(r, "O")->why, "looks rounded to bf16"), "%s", entry(r, "O")->why);
    cr_expect(strstr(r->reproduce, "--outputs 'it'\\''s mine.safetensors' --case "), "%s",
              r->reproduce);
    moe_check_result_destroy(&r);
    cr_assert_eq(moe_check_outputs(path, p, MOE_BF16, NULL, NULL, &r), MOE_OK);
    cr_expect_eq(r->verdict, MOE_VERDICT_PASS, "%s", r->why);
    cr_expect(strstr(r->reproduce, " --arithmetic bf16 "), "%s", r->reproduce);
    moe_check_result_destroy(&r);
    scratch_leave();
    moe_reference_result_destroy(&res);
    moe_problem_destroy(&p);
}

Test(check_recipes, selector) {
    const moe_check_params params = {
        .recipe = "eager", .repeats = 20, .sample_above_flops = -1, .threads = 3};
    const moe_check_params none = {0};
    char *text = moe_int_selector("--backend", "./a b/$x.so:v", MOE_F16, &params);
    cr_expect_str_eq(text, "--backend './a b/$x.so:v' --arithmetic fp16 --recipe eager "
                           "--repeat 20 --exhaustive");
    free(text);
    text = moe_int_selector("--outputs", "/data/mine.safetensors", -1, &none);
    cr_expect_str_eq(text, "--outputs /data/mine.safetensors");
    free(text);
    text = moe_int_selector("--outputs", "", -1, &none);
    cr_expect_str_eq(text, "--outputs ''");
    free(text);
}

/* A table row is complete, and its name leads to it. */
Test(check_recipes, table) {
    size_t count;
    const moe_recipe *r = moe_recipes(&count);
    cr_expect_str_eq(r[0].name, "moeref");
    for (size_t i = 0; i < count; i++) {
        cr_expect_eq(moe_recipe_find(r[i].name), &r[i]);
        cr_expect_gt(strlen(r[i].brief), 8);
        cr_expect_eq(r[i].points >> MOE_POINT_COUNT, 0);
    }
    for (int p = 0; p < MOE_POINT_COUNT; p++)
        cr_expect(moe_point_name(p) && moe_point_what(p));
    cr_expect_null(moe_point_name(MOE_POINT_COUNT));
    cr_expect_null(moe_recipe_find("no such recipe"));
}
