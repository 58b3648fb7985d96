/* The comparison with golden layers can fail: every fault planted here must be visible in every
 * family that it applies to. */
#include "golden.h"

#include <math.h>

#define BROKEN_NMSE 1e-6 /* a fault must be at least this visible; the limit is 1e-12 */

/* The largest NMSE over everything that the golden file holds; NaN counts as the largest. */
static double worst_nmse(const moe_problem *problem, const moe_reference_result *result,
                         const char **ret_tensor) {
    double worst = -1;
    for (int id = 0; id < MOE_T_COUNT; id++) {
        const moe_tensor *want = &problem->expected.t[id], *got = &result->out.t[id];
        if (!want->data)
            continue;
        cr_assert(got->data && moe_tensor_same_shape(got, want), "%s: %s has another shape",
                  problem->name, moe_tensor_name(id));
        double e = nmse(got, want);
        if (!(e <= worst)) {
            worst = e;
            *ret_tensor = moe_tensor_name(id);
        }
        if (isnan(e))
            break;
    }
    return worst;
}

/* Each takes a loaded problem and breaks one thing that a loader, a kernel author
 * or a broken disk could break. */

static int64_t busiest_expert(const moe_problem *problem) {
    moe_reference_result *result = problem->expected_plan ? NULL : run(problem);
    const moe_plan *plan = result ? result->plan : problem->expected_plan;
    const int64_t *offsets = plan->offsets;
    int64_t best = 0;
    for (int64_t e = 1; e < problem->layer.E; e++) {
        if (offsets[e + 1] - offsets[e] > offsets[best + 1] - offsets[best])
            best = e;
    }
    moe_reference_result_destroy(&result);
    return best;
}

static void scale_elements(moe_tensor *t, int64_t first, int64_t count, double factor) {
    for (int64_t i = first; i < first + count; i++)
        moe_store(t->data, t->dtype, (size_t)i, factor * moe_load(t->data, t->dtype, (size_t)i));
}

/* One expert's matrix of W1 or W2 (or of their gradients). */
static void scale_expert(moe_problem *p, moe_tensor *t, double factor) {
    int64_t size = t->shape[1] * t->shape[2];
    scale_elements(t, busiest_expert(p) * size, size, factor);
}

static void flip_w1(moe_problem *p) {
    scale_expert(p, &p->in.t[MOE_T_W1], -1);
}

static void flip_w2(moe_problem *p) {
    scale_expert(p, &p->in.t[MOE_T_W2], -1);
}

static void flip_expected_output(moe_problem *p) {
    scale_elements(&p->expected.t[MOE_T_O], 0, p->layer.d, -1);
}

static void zero_expected_row(moe_problem *p) {
    scale_elements(&p->expected.t[MOE_T_O], 0, p->layer.d, 0); /* a full expert drops later ones */
}

static void zero_gradient_row(moe_problem *p) {
    moe_tensor *t = &p->expected.t[MOE_T_DW1];
    scale_elements(t, busiest_expert(p) * t->shape[1] * t->shape[2], t->shape[2], 0);
}

static void zero_weight_row(moe_problem *p) {
    moe_tensor *t = &p->in.t[MOE_T_W2];
    scale_elements(t, busiest_expert(p) * t->shape[1] * t->shape[2], t->shape[2], 0);
}

static void swap_gate_and_up(moe_problem *p) {
    moe_tensor *t = &p->in.t[MOE_T_W1];
    int32_t layout = p->layer.glu_layout;
    int64_t n = p->layer.n, d = p->layer.d;
    for (int64_t i = 0; i < p->layer.E * n * d; i++) {
        int64_t e = i / (n * d), row = i / d % n, base = e * 2 * n;
        int64_t gate = (base + moe_h_column(layout, n, 2 * n, row, 0)) * d + i % d;
        int64_t up = (base + moe_h_column(layout, n, 2 * n, row, 1)) * d + i % d;
        double keep = moe_load(t->data, t->dtype, (size_t)gate);
        moe_store(t->data, t->dtype, (size_t)gate, moe_load(t->data, t->dtype, (size_t)up));
        moe_store(t->data, t->dtype, (size_t)up, keep);
    }
}

static void other_glu_layout(moe_problem *p) {
    p->layer.glu_layout = !p->layer.glu_layout;
}

static void other_renorm(moe_problem *p) {
    p->layer.router.renorm = !p->layer.router.renorm;
}

static void scale_routing(moe_problem *p) {
    p->layer.router.scale *= 1.03;
}

static void nan_in_input(moe_problem *p) {
    moe_store(p->in.t[MOE_T_X].data, p->in.t[MOE_T_X].dtype, 5, (double)NAN);
}

static void drop_selection_bias(moe_problem *p) {
    moe_tensor *t = &p->in.t[MOE_T_B_SELECT];
    scale_elements(t, 0, moe_tensor_count(t), 0);
}

static void drop_groups(moe_problem *p) {
    p->layer.router.select = MOE_SELECT_TOPK;
}

static void drop_shared_gate(moe_problem *p) {
    p->layer.shared_gate = 0;
    moe_tensor_destroy(&p->expected.t[MOE_T_DW_GATE_SHARED]);
}

static void weigh_the_other_side(moe_problem *p) {
    p->layer.router.weight_on = !p->layer.router.weight_on;
}

static void drop_expert_biases(moe_problem *p) {
    p->layer.expert_bias = 0;
    moe_tensor_destroy(&p->expected.t[MOE_T_DB1]);
    moe_tensor_destroy(&p->expected.t[MOE_T_DB2]);
}

static void plain_swiglu(moe_problem *p) {
    p->layer.act = MOE_ACT_SWIGLU;
}

static void plain_softmax(moe_problem *p) {
    p->layer.router.score = MOE_SCORE_SOFTMAX;
}

static bool always(const moe_problem *p) {
    return p->T > 0;
}

/* relu(w x) = w relu(x) for w > 0. */
static bool side_matters(const moe_problem *p) {
    return p->layer.act != MOE_ACT_RELU || p->layer.expert_bias;
}

static bool is_gated(const moe_problem *p) {
    return moe_act_is_gated(p->layer.act);
}

/* Softmax over the chosen experts sums to one: dividing by the sum again changes nothing. */
static bool renorm_matters(const moe_problem *p) {
    return p->layer.router.score != MOE_SCORE_SOFTMAX_TOPK;
}

static bool has_selection_bias(const moe_problem *p) {
    return p->layer.router.select_bias;
}

static bool has_groups(const moe_problem *p) {
    return p->layer.router.select == MOE_SELECT_GROUP_TOPK;
}

static bool has_shared_gate(const moe_problem *p) {
    return p->layer.shared_gate;
}

static bool has_expert_biases(const moe_problem *p) {
    return p->layer.expert_bias;
}

static bool is_clamped(const moe_problem *p) {
    return p->layer.act == MOE_ACT_SWIGLU_CLAMP;
}

static bool is_sparsemixer(const moe_problem *p) {
    return p->layer.router.score == MOE_SCORE_SPARSEMIXER;
}

static const struct {
    const char *name;
    void (*plant)(moe_problem *p);
    bool (*applies)(const moe_problem *p);
} faults[] = {
    {"sign of one expert's W1", flip_w1, always},
    {"sign of one expert's W2", flip_w2, always},
    {"sign of one expected token", flip_expected_output, always},
    {"zeroed row of the expected output", zero_expected_row, always},
    {"zeroed row of an expected dW1", zero_gradient_row, always},
    {"zeroed row of a W2", zero_weight_row, always},
    {"gate and up swapped", swap_gate_and_up, is_gated},
    {"the other glu_layout", other_glu_layout, is_gated},
    {"the other renormalisation", other_renorm, renorm_matters},
    {"weights 3 % too large", scale_routing, always},
    {"weights on the other side of the expert", weigh_the_other_side, side_matters},
    {"a NaN in X", nan_in_input, always},
    {"no selection bias", drop_selection_bias, has_selection_bias},
    {"no group limit", drop_groups, has_groups},
    {"no gate on the shared expert", drop_shared_gate, has_shared_gate},
    {"no expert biases", drop_expert_biases, has_expert_biases},
    {"SwiGLU without clamp", plain_swiglu, is_clamped},
    {"softmax instead of SparseMixer", plain_softmax, is_sparsemixer},
};

ParameterizedTestParameters(golden_hf_faults, show) {
    return every_family();
}

ParameterizedTest(family_name *family, golden_hf_faults, show) {
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        const char *tensor = "";
        moe_problem *problem = load(family->text);
        if (!problem->block && faults[i].applies(problem)) {
            faults[i].plant(problem);
            moe_reference_result *result = run(problem);
            double worst = worst_nmse(problem, result, &tensor);
            cr_expect_not(worst < BROKEN_NMSE, "%s: %s gives NMSE %.3g in %s only", problem->name,
                          faults[i].name, worst, tensor);
            moe_reference_result_destroy(&result);
        }
        moe_problem_destroy(&problem);
    }
}
