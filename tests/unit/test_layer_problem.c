/* Drawn problems: which tensors there are and how they are distributed. */
#include "drawn.h"
#include "moeref/case.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double element(const moe_problem *p, moe_tensor_id id, int64_t i) {
    return moe_load(p->in.t[id].data, p->in.t[id].dtype, (size_t)i);
}

static double stddev(const moe_problem *p, moe_tensor_id id) {
    int64_t n = moe_tensor_count(&p->in.t[id]);
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += element(p, id, i) * element(p, id, i);
    return sqrt(sum / (double)n);
}

static bool equal_bits(const moe_tensor *a, const moe_tensor *b) {
    return moe_tensor_same_shape(a, b) && a->dtype == b->dtype &&
           memcmp(a->data, b->data, (size_t)moe_tensor_bytes(a)) == 0;
}

static void assert_tensors_of(const char *line, int plan_given, int backward) {
    moe_problem *p = drawn(line);
    for (int id = 0; id < MOE_T_COUNT; id++) {
        moe_tensor_role role = moe_tensor_role_of(id);
        bool input = role == MOE_ROLE_PARAM || role == MOE_ROLE_INPUT;
        bool want =
            input && moe_tensor_exists(&p->layer, id, plan_given) && (id != MOE_T_DO || backward);
        cr_expect_eq(p->in.t[id].data != NULL, want, "%s: %s", line, moe_tensor_name(id));
        cr_expect_null(p->expected.t[id].data);
        if (!p->in.t[id].data)
            continue;
        moe_tensor shape;
        moe_tensor_shape(&p->layer, id, p->T, 0, 0, &shape);
        cr_expect(moe_tensor_same_shape(&shape, &p->in.t[id]));
        cr_expect_eq((int32_t)p->in.t[id].dtype, p->dtype);
    }
    cr_expect_eq(p->plan != NULL, plan_given);
    moe_problem_destroy(&p);
    cr_expect_null(p);
}

/* What backward makes begins with a d in its name, and dO is what it starts from. */
Test(layer_problem, backward_results_are_told_by_their_names) {
    for (int id = 0; id < MOE_T_COUNT; id++)
        cr_expect_eq(moe_tensor_is_backward((moe_tensor_id)id),
                     moe_tensor_name((moe_tensor_id)id)[0] == 'd' && id != MOE_T_DO, "%s",
                     moe_tensor_name((moe_tensor_id)id));
}

Test(layer_problem, columns_of_h_in_both_layouts) {
    cr_expect_eq(moe_h_column(MOE_GLU_CONCAT, 8, 16, 3, 0), 3);
    cr_expect_eq(moe_h_column(MOE_GLU_CONCAT, 8, 16, 3, 1), 11);
    cr_expect_eq(moe_h_column(MOE_GLU_INTERLEAVED, 8, 16, 3, 0), 6);
    cr_expect_eq(moe_h_column(MOE_GLU_INTERLEAVED, 8, 16, 3, 1), 7);
    cr_expect_eq(moe_h_column(MOE_GLU_INTERLEAVED, 8, 8, 3, 0), 3, "without a gate");
}

Test(layer_problem, tensors_are_those_of_the_layer) {
    assert_tensors_of("T=5 d=8 n=6 E=4 K=2", 0, 1);
    assert_tensors_of("T=5 d=8 n=6 E=4 K=2 pass=fwd", 0, 0);
    assert_tensors_of("T=5 d=8 n=6 E=4 K=2 pass=bwd dtype=fp64", 0, 1);
    assert_tensors_of("T=5 d=8 n=6 E=4 K=2 zero=3 bias=1 router_bias=1 select_bias=1 shared=10 "
                      "shared_gate=1 act=relu2 dtype=fp16",
                      0, 1);
    assert_tensors_of("T=5 d=8 n=6 E=4 K=2 router_bias=1 select_bias=1 shared=10 route=uniform", 1,
                      1);
}

Test(layer_problem, names_reproduce) {
    moe_problem *p = drawn("T=5 K=2 E=4 n=6 d=8 act=swiglu seed=3");
    cr_expect_str_eq(p->name, "T=5 d=8 n=6 E=4 K=2 seed=3");
    cr_expect_str_eq(p->reproduce, "--case \"T=5 d=8 n=6 E=4 K=2 seed=3\"");
    cr_expect(p->T == 5 && p->seed == 3 && p->pass == MOE_PASS_BOTH && p->dtype == MOE_BF16);
    moe_problem_destroy(&p);
    moe_problem_destroy(&p);
    moe_problem_destroy(NULL);
}

/* Sample standard deviations of N elements lie within 5/sqrt(2N) of the true ones. */
static void assert_stddev(const moe_problem *p, moe_tensor_id id, double want) {
    double n = (double)moe_tensor_count(&p->in.t[id]);
    cr_expect_float_eq(stddev(p, id) / want, 1.0, 5 / sqrt(2 * n), "%s: %g instead of %g",
                       moe_tensor_name(id), stddev(p, id), want);
}

Test(layer_problem, distributions) {
    moe_problem *p = drawn("T=200 d=100 n=50 E=40 K=2 bias=1 router_bias=1 select_bias=1 shared=25 "
                           "shared_gate=1 dtype=fp32");
    assert_stddev(p, MOE_T_X, 1);
    assert_stddev(p, MOE_T_DO, 1);
    assert_stddev(p, MOE_T_W_R, 0.1);
    assert_stddev(p, MOE_T_W1, 0.1);
    assert_stddev(p, MOE_T_W2, 1 / sqrt(50));
    assert_stddev(p, MOE_T_W1_SHARED, 0.1);
    assert_stddev(p, MOE_T_W2_SHARED, 0.2);
    assert_stddev(p, MOE_T_W_GATE_SHARED, 0.1);
    assert_stddev(p, MOE_T_B1, 0.1);
    assert_stddev(p, MOE_T_B2, 0.1);
    assert_stddev(p, MOE_T_B_R, 0.1);
    assert_stddev(p, MOE_T_B_SELECT, 0.02);
    moe_problem_destroy(&p);
    p = drawn("T=200 d=100 n=50 E=40 K=2 x_scale=3 r_scale=0.5 dtype=fp32");
    assert_stddev(p, MOE_T_X, 3);
    assert_stddev(p, MOE_T_DO, 3);
    assert_stddev(p, MOE_T_W_R, 0.05);
    assert_stddev(p, MOE_T_W1, 0.1);
    moe_problem_destroy(&p);
}

Test(layer_problem, seeds_and_streams) {
    moe_problem *a = drawn("T=7 d=16 n=16 E=4 K=2 seed=5");
    moe_problem *same = drawn("T=7 d=16 n=16 E=4 K=2 seed=5");
    moe_problem *other = drawn("T=7 d=16 n=16 E=4 K=2 seed=6");
    moe_problem *longer = drawn("T=9 d=16 n=16 E=4 K=2 seed=5");
    for (int id = 0; id < MOE_T_COUNT; id++) {
        if (!a->in.t[id].data)
            continue;
        cr_expect(equal_bits(&a->in.t[id], &same->in.t[id]), "%s", moe_tensor_name(id));
        cr_expect_not(equal_bits(&a->in.t[id], &other->in.t[id]), "%s", moe_tensor_name(id));
    }
    /* Tokens and parameters do not depend on how many tokens there are. */
    cr_expect_eq(memcmp(a->in.t[MOE_T_X].data, longer->in.t[MOE_T_X].data,
                        (size_t)moe_tensor_bytes(&a->in.t[MOE_T_X])),
                 0);
    cr_expect(equal_bits(&a->in.t[MOE_T_W2], &longer->in.t[MOE_T_W2]));
    cr_expect_neq(memcmp(a->in.t[MOE_T_X].data, a->in.t[MOE_T_DO].data,
                         (size_t)moe_tensor_bytes(&a->in.t[MOE_T_X])),
                  0);
    moe_problem_destroy(&a);
    moe_problem_destroy(&same);
    moe_problem_destroy(&other);
    moe_problem_destroy(&longer);
}

static int64_t count_not_finite(const moe_problem *p, moe_tensor_id id) {
    int64_t n = 0;
    for (int64_t i = 0; i < moe_tensor_count(&p->in.t[id]); i++)
        n += !isfinite(element(p, id, i));
    return n;
}

Test(layer_problem, special_data) {
    moe_problem *p = drawn("T=4 d=9 n=6 E=4 K=2 inject=nan@3");
    cr_expect(isnan(element(p, MOE_T_X, 3 * 9 + 4)));
    cr_expect_eq(count_not_finite(p, MOE_T_X), 1);
    moe_problem_destroy(&p);
    p = drawn("T=4 d=9 n=6 E=4 K=2 inject=inf@0 dtype=fp64");
    cr_expect(isinf(element(p, MOE_T_X, 4)));
    cr_expect_eq(count_not_finite(p, MOE_T_X), 1);
    cr_expect_eq(count_not_finite(p, MOE_T_W1), 0);
    moe_problem_destroy(&p);
    p = drawn("T=4 d=9 n=6 E=4 K=2 r_scale=0");
    cr_expect_eq(stddev(p, MOE_T_W_R), 0);
    cr_expect_gt(stddev(p, MOE_T_X), 0);
    moe_problem_destroy(&p);
    p = drawn("T=4 d=9 n=6 E=4 K=2 data=zero");
    cr_expect_eq(stddev(p, MOE_T_X), 0);
    cr_expect_eq(stddev(p, MOE_T_DO), 0);
    cr_expect_gt(stddev(p, MOE_T_W1), 0);
    moe_problem_destroy(&p);
    p = drawn("T=64 d=64 n=6 E=4 K=2 data=outlier dtype=fp32");
    cr_expect_gt(stddev(p, MOE_T_X), 1.3);
    moe_problem_destroy(&p);
}

/* Multiples of a power of two with quotients in [-3, 3]; their spread is near `stddev`. */
static void assert_integers(const moe_problem *p, moe_tensor_id id, double unit) {
    for (int64_t i = 0; i < moe_tensor_count(&p->in.t[id]); i++) {
        double q = element(p, id, i) / unit;
        cr_assert(q == rint(q) && fabs(q) <= 3, "%s[%lld] / %g = %g", moe_tensor_name(id),
                  (long long)i, unit, q);
    }
    cr_expect_gt(stddev(p, id), 0);
}

Test(layer_problem, integer_data_keeps_linear_stages_exact) {
    moe_problem *p = drawn("T=32 d=64 n=100 E=4 K=2 bias=1 data=integer dtype=bf16");
    assert_integers(p, MOE_T_X, 1);
    assert_integers(p, MOE_T_DO, 1);
    assert_integers(p, MOE_T_W1, 0.0625);  /* 1/sqrt(64) / 2 */
    assert_integers(p, MOE_T_W2, 0.03125); /* 1/sqrt(100) / 2 = 0.05, rounded down */
    assert_integers(p, MOE_T_B1, 0.03125); /* 0.1 / 2 = 0.05, rounded down */
    moe_problem_destroy(&p);
}

Test(layer_problem, hand_made_cases_are_checked) {
    static const int64_t three[] = {1, 2, 3};
    moe_case good;
    cr_assert_eq(moe_case_parse("T=4 d=4 n=4 E=2 K=1", NULL, &good), MOE_OK);
    for (int i = 0; i < 9; i++) {
        moe_case c = good;
        switch (i) {
        case 0:
            c.dtype = MOE_I32;
            break;
        case 1:
            c.dtype = 77;
            break;
        case 2:
            c.data = 9;
            break;
        case 3:
            c.pass = 0;
            break;
        case 4:
            c.inject = 3;
            break;
        case 5:
            c.route = 17;
            break;
        case 6:
            c.x_scale = INFINITY;
            break;
        case 7:
            c.layer.K = 3;
            break;
        case 8:
            c.route = MOE_ROUTE_COUNTS;
            c.counts = (int64_t *)three;
            c.n_counts = 3;
            break;
        }
        capture seen;
        moe_log log = capture_log(&seen);
        moe_problem *p = NULL;
        cr_expect_eq(moe_problem_from_case(&c, &log, &p), MOE_E_INVALID, "case %d", i);
        cr_expect_eq(seen.messages, 1, "case %d", i);
        cr_expect_null(p);
    }
}

/* Read by an address sanitizer, if there is one: a failed allocation returns NULL, as it does
 * without. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "allocator_may_return_null=1";
}

/* A layer that passes the checks but cannot fit: an error, not a crash, and nothing leaks. */
Test(layer_problem, out_of_memory) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_case c;
    moe_problem *p = NULL;
    cr_assert_eq(moe_case_parse("T=1 d=1048576 n=16777216 E=1 K=1 dtype=fp64", &log, &c), MOE_OK,
                 "%s", seen.text);
    cr_expect_eq(moe_problem_from_case(&c, &log, &p), MOE_E_NOMEM);
    cr_expect(strstr(seen.text, "cannot allocate"), "%s", seen.text);
    cr_expect_null(p);
}

/* Projections are predictions' alone: a problem without them would be another layer. */
Test(layer_problem, projections_are_not_drawn) {
    moe_case c;
    moe_problem *p = NULL;
    capture seen;
    const moe_log log = capture_log(&seen);
    cr_assert_eq(moe_case_parse("T=4 d=8 n=8 E=2 K=1 hidden=16", NULL, &c), MOE_OK);
    cr_expect_eq(moe_problem_from_case(&c, &log, &p), MOE_E_UNSUPPORTED);
    cr_expect(strstr(seen.text, "hidden=16"), "%s", seen.text);
    moe_case_destroy(&c);
}
