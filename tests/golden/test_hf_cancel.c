/* One expert per token and renormalised weights: each is 1 whatever the logits, and the router's
 * gradient, 0, is what rounding leaves of terms as large as weight x dS. Whoever rounds each of
 * those once is right, and whoever is further off is not, however small both are. */
#include "block/block.h"
#include "entry.h"
#include "golden.h"
#include "moeref/backend.h"
#include "moeref/check.h"
#include "temporary.h"

#include <float.h>

/* A family's golden checkpoint with one expert per token; tokens are drawn, and golden values are
 * there none. */
static moe_problem *load_one_expert(const char *family) {
    char dir[TEMPORARY_BYTES], command[8192];
    const char *root = getenv("MOEREF_SOURCE_ROOT");
    moe_problem *problem = NULL;
    temporary_folder(dir);
    snprintf(command, sizeof command,
             "cp %s/golden/hf/%s/model.safetensors %s && "
             "sed 's/\"\\(num_experts_per_tok\\|top_k_experts\\)\": 3/\"\\1\": 1/' "
             "%s/golden/hf/%s/config.json >%s/config.json",
             root, family, dir, root, family, dir);
    cr_assert_eq(system(command), 0, "%s", command);
    cr_assert_eq(moe_problem_from_hf(dir, -1, 64, &to_stderr, &problem), MOE_OK, "%s", family);
    temporary_remove(dir);
    cr_assert(problem->block && problem->block->layer.K == 1, "%s", family);
    return problem;
}

/* The router's linear map, and by how much the numbers behind it multiply what it makes. */
static int linear_map(const moe_int_chain *router, double *factor) {
    *factor = 1;
    for (int i = router->n - 1; i >= 0; i--) {
        if (router->op[i].kind == MOE_INT_OP_LINEAR)
            return i;
        cr_assert(router->op[i].kind == MOE_INT_OP_SCALE && !router->op[i].w.data);
        *factor *= router->op[i].number;
    }
    cr_assert_fail("no linear map");
    return -1;
}

/* Golden values of its gradient [classes][in]: what it is (Muse Spark's has an eps of 1e-15 that
 * shows), every term rounded `times` times as much as float64 rounds. */
static void make_golden(moe_problem *problem, const moe_int_block_result *right, double times) {
    moe_block *b = problem->block;
    const moe_int_chain *router = &b->chain[MOE_INT_PLACE_ROUTER];
    double factor;
    const int map = linear_map(router, &factor);
    const int64_t in = router->op[map].in;
    moe_tensor *ret = &b->want.chain[MOE_INT_PLACE_ROUTER].w[map];
    moe_tensor_destroy(ret);
    cr_assert_eq(moe_tensor_cast(&right->chain[MOE_INT_PLACE_ROUTER].w[map], MOE_F64, ret), MOE_OK);
    for (int64_t e = 0; e < b->layer.E; e++) {
        for (int64_t p = b->plan->offsets[e]; p < b->plan->offsets[e + 1]; p++) {
            const double rounding = (p % 2 ? times : -times) * DBL_EPSILON / 2;
            const double term = factor * b->plan->weight[p] * ((const double *)right->dS.data)[p];
            const double *x = b->router.value[map] + b->plan->token[p] * in;
            for (int64_t i = 0; i < in; i++)
                ((double *)ret->data)[e * in + i] += rounding * term * x[i];
        }
    }
}

static moe_verdict verdict_as(const char *spec, const moe_problem *problem, const char *family,
                              double times) {
    moe_backends *all = NULL;
    moe_backend *reference = NULL;
    moe_check_result *r = NULL;
    const moe_check_params params = {.no_explanation = true};
    cr_assert_eq(moe_backends_load(NULL, &to_stderr, &all), MOE_OK);
    cr_assert_eq(moe_backend_open(all, spec, NULL, &to_stderr, &reference), MOE_OK);
    cr_assert_eq(moe_check_backend(reference, problem, &params, &to_stderr, &r), MOE_OK);
    const moe_verdict ret = r->verdict;
    bool judged = false;
    for (size_t i = 0; i < r->n_tensors; i++)
        judged |= strncmp(r->tensor[i].name, "block dw_router", 15) == 0 &&
                  strcmp(r->tensor[i].truth, "golden") == 0;
    cr_expect(judged, "%s, %s: %s", family, spec, r->why);
    cr_expect(ret == MOE_VERDICT_PASS || strstr(r->why, "block dw_router"), "%s, %s, %g: %s",
              family, spec, times, r->why);
    moe_check_result_destroy(&r);
    moe_backend_close(&reference);
    moe_backends_destroy(&all);
    return ret;
}

Test(golden_hf_cancel, is_judged_by_its_terms) {
    static const char *const families[] = {"axk1", "muse_spark_text", "gemma4_text"};
    static const char *const specs[] = {"reference", "reference:fp32", "reference:bf16"};
    static const struct {
        double times;
        moe_verdict verdict;
    } rows[] = {{1, MOE_VERDICT_PASS},
                {64, MOE_VERDICT_FAIL},
                {1e6, MOE_VERDICT_FAIL},
                {1e13, MOE_VERDICT_FAIL}};
    for (int f = 0; f < 3; f++) {
        moe_problem *problem = load_one_expert(families[f]);
        moe_reference_result *oracle = NULL;
        moe_int_block_result r = {0};
        cr_assert_eq(moe_reference_problem(problem, 1, &to_stderr, &oracle), MOE_OK);
        cr_assert_eq(moe_int_block_leave(problem->block, problem, &oracle->out, &to_stderr, &r),
                     MOE_OK);
        for (int i = 0; i < 4; i++) {
            make_golden(problem, &r, rows[i].times);
            for (int k = 0; k < 3; k++)
                cr_expect_eq(verdict_as(specs[k], problem, families[f], rows[i].times),
                             rows[i].verdict, "%s, %s: %g roundings", families[f], specs[k],
                             rows[i].times);
        }
        moe_int_block_result_destroy(&r);
        moe_reference_result_destroy(&oracle);
        moe_problem_destroy(&problem);
    }
}
