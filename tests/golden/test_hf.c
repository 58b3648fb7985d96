/* The main proof: layers that Transformers computed, recomputed by the float64 reference.
 *
 * Expected values are float32 roundings of float64 results: relative error below 2^-24 each, NMSE
 * below 2^-48 / 3 = 1.2e-15. The limit of 1e-12 leaves room for another order of additions. */
#include "golden.h"

#include <float.h>
#include <math.h>

#define NMSE_LIMIT   1e-12
#define WEIGHT_LIMIT 1e-6 /* relative; float32 rounding is 6e-8 */

/* Number of (token, expert) pairs that only one of the plans has. */
static int64_t routing_differences(const moe_plan *got, const moe_plan *want) {
    int64_t differences = 0;
    for (int64_t e = 0; e < want->n_experts; e++) {
        int64_t g = got->offsets[e], w = want->offsets[e];
        while (g < got->offsets[e + 1] && w < want->offsets[e + 1]) {
            int32_t a = got->token[g], b = want->token[w];
            differences += a != b;
            g += a <= b;
            w += b <= a;
        }
        differences += got->offsets[e + 1] - g + want->offsets[e + 1] - w;
    }
    return differences;
}

/* Every final result of the layer except dS, which Transformers does not show, must be in the file:
 * a missing one would pass unseen. */
static void check_coverage(const moe_problem *problem) {
    for (int id = 0; id < MOE_T_COUNT; id++) {
        moe_tensor_role role = moe_tensor_role_of(id);
        if ((role != MOE_ROLE_FORWARD && role != MOE_ROLE_BACKWARD) || id == MOE_T_DS ||
            !moe_tensor_exists(&problem->layer, id, 0))
            continue;
        cr_expect(problem->expected.t[id].data, "%s: no expected %s", problem->name,
                  moe_tensor_name(id));
    }
    cr_expect(problem->expected_plan || problem->expected.t[MOE_T_LOGITS].data,
              "%s: no expected routing", problem->name);
}

static void check_routing(const moe_problem *problem, const moe_plan *got) {
    const moe_plan *want = problem->expected_plan;
    if (!want) /* a router that hands out logits alone */
        return;
    cr_assert_eq(got->n_experts, want->n_experts, "%s: number of experts", problem->name);
    int64_t differences = routing_differences(got, want);
    cr_assert_eq(differences, 0, "%s: %lld of %lld routed pairs differ", problem->name,
                 (long long)differences, (long long)want->n_pairs);
    for (int64_t p = 0; p < want->n_pairs; p++)
        cr_assert(fabs(got->weight[p] - want->weight[p]) <=
                      WEIGHT_LIMIT * fabs(want->weight[p]) + FLT_MIN,
                  "%s: weight of pair %lld (token %d) is %.9g, expected %.9g", problem->name,
                  (long long)p, want->token[p], got->weight[p], want->weight[p]);
}

static void check_tensors(const moe_problem *problem, const moe_reference_result *result) {
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const moe_tensor *want = &problem->expected.t[id], *got = &result->out.t[id];
        if (!want->data)
            continue;
        cr_assert(got->data && moe_tensor_same_shape(got, want), "%s: %s has another shape",
                  problem->name, moe_tensor_name(id));
        double e = nmse(got, want);
        cr_expect(e < NMSE_LIMIT, "%s: %s has NMSE %.3g, limit %.0e", problem->name,
                  moe_tensor_name(id), e, NMSE_LIMIT);
    }
}

ParameterizedTestParameters(golden_hf, reference_agrees) {
    return every_family();
}

ParameterizedTest(family_name *family, golden_hf, reference_agrees) {
    moe_problem *problem = load(family->text);
    if (!problem->block) { /* test_hf_block.c */
        check_coverage(problem);
        moe_reference_result *result = run(problem);
        check_routing(problem, result->plan);
        check_tensors(problem, result);
        moe_reference_result_destroy(&result);
    }
    moe_problem_destroy(&problem);
}
