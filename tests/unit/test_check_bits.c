/* check --bits: the reference of 16 bits adds in fp32, one product after the other, and is found to
 * do so; another arithmetic, or one last place of one element, is not equal. */
#include "check/judge.h"
#include "check/verdict/result.h"
#include "drawn.h"
#include "moeref/reference.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define LINE "T=40 d=80 n=48 E=4 K=2 bias=1 renorm=1 seed=7"

/* The verdict on the reference's results in `dtype`; `element` of `wrong` lies a place higher. */
static moe_check_result *judge(const char *line, moe_dtype dtype, const char *bits,
                               moe_tensor_id wrong, int64_t element) {
    moe_problem *p = drawn(line);
    moe_reference_params play = {.tokens = p->T,
                                 .precision = (int32_t)dtype,
                                 .threads = 1,
                                 .seed = p->seed,
                                 .plan = p->plan,
                                 .plan_given = p->plan != NULL};
    moe_check_params params = {.threads = 1, .no_explanation = true, .bits = bits};
    moe_reference_result *res = NULL;
    moe_check_result *r = NULL;
    cr_assert_eq(moe_reference_run(&p->layer, &p->in, &play, NULL, &res), MOE_OK);
    if (wrong != MOE_T_COUNT) {
        float *x = (float *)res->out.t[wrong].data + element;
        *x = !isfinite(*x) ? 1 : *x * (1 + (float)(2 * moe_dtype_roundoff(dtype)));
        *x = (float)moe_round_to(*x, dtype);
    }
    cr_assert_eq(moe_int_result_create(p, "test", "--backend test", NULL, &r), MOE_OK);
    moe_int_subject subject = {
        .problem = p, .arithmetic = dtype, .got = res->out, .plan = res->plan};
    cr_assert_eq(moe_int_judge(&subject, &params, NULL, r), MOE_OK);
    moe_reference_result_destroy(&res);
    moe_problem_destroy(&p);
    return r;
}

static const moe_bits_stage *stage(const moe_check_result *r, const char *name) {
    for (int i = 0; i < r->bits.n_stages; i++)
        if (strcmp(r->bits.stage[i].name, name) == 0)
            return &r->bits.stage[i];
    cr_assert(false, "%s was not compared: %s", name, r->bits.why);
    return NULL;
}

Test(bits, equal) {
    static const char *const names[] = {"router_logits", "H", "Y", "dXp", "dW1"};
    static const int64_t elements[] = {40 * 4, 80 * 96, 80 * 80, 80 * 80, 4 * 96 * 80};
    moe_check_result *r = judge(LINE " dtype=bf16", MOE_BF16, "fp32", MOE_T_COUNT, 0);
    cr_expect_lt(r->verdict, MOE_VERDICT_FAIL, "%s", r->why);
    for (int i = 0; i < 5; i++) {
        cr_expect_eq(stage(r, names[i])->differ, 0, "%s: %s", names[i], stage(r, names[i])->first);
        cr_expect_eq(stage(r, names[i])->elements, elements[i], "%s", names[i]);
    }
    moe_check_result_destroy(&r);
    r = judge(LINE " dtype=fp16", MOE_F16, "fp32", MOE_T_COUNT, 0);
    cr_expect_lt(r->verdict, MOE_VERDICT_FAIL, "%s", r->why);
    moe_check_result_destroy(&r);
}

Test(bits, other_arithmetics_differ) {
    static const char *const others[] = {"sm_90", "sm_80", "fp32+descending", "fp32+split=2"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        moe_check_result *r = judge(LINE " dtype=bf16", MOE_BF16, others[i], MOE_T_COUNT, 0);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL, "%s passes", others[i]);
        cr_expect_str_eq(r->first_wrong_stage, "router_logits");
        cr_expect(stage(r, "router_logits")->differ > 20, "%s", others[i]);
        moe_check_result_destroy(&r);
    }
}

/* Gates let one last place of one element pass; equality does not, and says which. */
Test(bits, one_last_place) {
    static const struct {
        moe_tensor_id id;
        const char *where;
    } rows[] = {{MOE_T_H, "element 5 of row 3 "},
                {MOE_T_Y, "element 5 of row 3 "},
                {MOE_T_DXP, "element 5 of row 3 "}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const int64_t at = 5 + 3 * (rows[i].id == MOE_T_H ? 96 : 80);
        moe_check_result *r = judge(LINE " dtype=bf16", MOE_BF16, "fp32", rows[i].id, at);
        const moe_bits_stage *s = stage(r, moe_tensor_name(rows[i].id));
        moe_check_result *gated =
            judge(LINE " dtype=bf16", MOE_BF16, NULL, rows[i].id, at); /* by tolerances alone */
        cr_expect_eq(gated->verdict, MOE_VERDICT_PASS, "%s", gated->why);
        moe_check_result_destroy(&gated);
        cr_expect_eq(r->verdict, MOE_VERDICT_FAIL);
        cr_expect_eq(s->differ, 1);
        cr_expect_eq(strncmp(s->first, rows[i].where, strlen(rows[i].where)), 0, "%s", s->first);
        moe_check_result_destroy(&r);
    }
}

/* What an infinite token makes of dW2 is known, and a number in its place is wrong. */
Test(bits, columns_that_are_not_finite) {
    const char line[] = "T=8 d=16 n=8 E=4 K=2 route=uniform inject=inf@5 seed=41 dtype=bf16";
    moe_check_result *r = judge(line, MOE_BF16, "fp32", MOE_T_COUNT, 0);
    cr_expect_eq(stage(r, "dW2")->differ, 0, "%s", stage(r, "dW2")->first);
    cr_expect_eq(stage(r, "dW2")->undecided, 0);
    moe_check_result_destroy(&r);
    for (int64_t e = 0; e < 4;
         e++) { /* two of them have the token, which makes inf or NaN: 1 instead */
        r = judge(line, MOE_BF16, "fp32", MOE_T_DW2, e * 16 * 8);
        cr_expect_eq(stage(r, "dW2")->differ, 1, "expert %d", (int)e);
        moe_check_result_destroy(&r);
    }
}

Test(bits, found_in_the_bank) {
    moe_check_result *r = judge(LINE " dtype=bf16", MOE_BF16, "find", MOE_T_COUNT, 0);
    cr_expect_lt(r->verdict, MOE_VERDICT_FAIL, "%s", r->why);
    cr_expect_str_eq(stage(r, "router_logits")->arithmetic, "fp32");
    cr_expect_eq(stage(r, "router_logits")->explained_by, 2, "fp32, and promoted beyond K");
    moe_check_result_destroy(&r);
}

Test(bits, not_of_wider_types) {
    moe_check_result *r = judge(LINE " dtype=fp32", MOE_BF16, "fp32", MOE_T_COUNT, 0);
    cr_expect_eq(r->bits.n_stages, 0);
    cr_expect_str_not_empty(r->bits.why);
    cr_expect_neq(r->verdict, MOE_VERDICT_PASS, "nothing was compared");
    moe_check_result_destroy(&r);
}
