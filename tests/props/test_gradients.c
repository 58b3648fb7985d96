/* Every gradient of the reference against central differences of sum(O * dO), the choice of experts
 * held fixed. */
#include "props.h"

#include <criterion/criterion.h>
#include <math.h>

static const char *const lines[] = {
    "T=7 d=6 n=5 E=8 K=3 dtype=fp64 act=swiglu renorm=1 seed=1",
    "T=7 d=6 n=5 E=8 K=3 dtype=fp64 act=swiglu scale=2.5 router_bias=1 seed=2",
    "T=7 d=6 n=5 E=8 K=3 dtype=fp64 act=geglu glu=interleaved score=softmax_topk bias=1 seed=3",
    "T=7 d=6 n=5 E=8 K=3 dtype=fp64 act=reglu score=sigmoid select_bias=1 renorm=1 seed=4",
    "T=7 d=6 n=5 E=8 K=3 dtype=fp64 act=swiglu_clamp glu=interleaved bias=1 router_bias=1 "
    "score=softmax_topk limit=0.5 seed=5",
    "T=7 d=6 n=5 E=8 K=2 dtype=fp64 score=sparsemixer jitter=0.3 seed=6",
    "T=7 d=6 n=5 E=8 K=2 dtype=fp64 score=sigmoid select=group_topk groups=4 topk_groups=2 "
    "renorm=1 "
    "eps=1e-20 scale=2 shared=4 seed=7",
    "T=7 d=6 n=5 E=8 K=3 dtype=fp64 score=sigmoid on=input shared=3 seed=8",
    "T=7 d=6 n=5 E=6 K=3 dtype=fp64 zero=2 select_bias=1 scale=6 seed=9",
    "T=7 d=6 n=5 E=8 K=3 dtype=fp64 act=relu2 select=expert_choice seed=10",
    "T=7 d=6 n=5 E=8 K=3 dtype=fp64 act=gelu bias=1 select=capacity capacity=2 renorm=1 seed=11",
    "T=16 d=6 n=5 E=4 K=2 dtype=fp64 act=silu select=token_rounding tile=4 renorm=1 seed=12",
    "T=16 d=6 n=5 E=4 K=2 dtype=fp64 act=relu select=token_rounding tile=4 rounding=up renorm=0 "
    "seed=13",
    "T=7 d=6 n=5 E=4 K=2 dtype=fp64 shared=3 shared_gate=1 renorm=1 seed=14",
    "T=7 d=6 n=5 E=4 K=2 dtype=fp64 route=uniform bias=1 seed=15",
    "T=1 d=3 n=2 E=1 K=1 dtype=fp64 seed=16",
    "T=3 d=5 n=4 E=4 K=4 dtype=fp64 renorm=1 on=input seed=17",
};

static double loss(const moe_problem *p, const moe_plan *plan) {
    moe_reference_result *r = props_run_with(p, plan, p->plan != NULL);
    const double *o = props_values(r, MOE_T_O), *g = p->in.t[MOE_T_DO].data;
    double sum = 0;
    for (int64_t i = 0; i < p->T * p->layer.d; i++)
        sum += o[i] * g[i];
    moe_reference_result_destroy(&r);
    return sum;
}

/* Relative error of up to 24 elements of gradient `id`, the worst of them. */
static double worst_error(moe_problem *p, const moe_reference_result *r, moe_tensor_id id,
                          moe_tensor_id of) {
    const double step = 1e-5;
    double *w = p->in.t[of].data, worst = 0;
    int64_t count = moe_tensor_count(&p->in.t[of]);
    for (int64_t i = 0; i < count; i += 1 + count / 24) {
        double kept = w[i];
        w[i] = kept + step;
        double above = loss(p, r->plan);
        w[i] = kept - step;
        double below = loss(p, r->plan);
        w[i] = kept;
        double slope = (above - below) / (2 * step);
        double error = fabs(slope - props_values(r, id)[i]) / (1 + fabs(slope));
        if (!(error <= worst))
            worst = error;
    }
    return worst;
}

Test(gradients, match_finite_differences) {
    int checked = 0;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        moe_problem *p = props_problem(lines[i]);
        moe_reference_result *r = props_run(p, MOE_F64, 1);
        for (int id = 0; id < MOE_T_COUNT; id++) {
            moe_tensor_id of = id == MOE_T_DX ? MOE_T_X : moe_tensor_param_of((moe_tensor_id)id);
            if (of == MOE_T_COUNT || !r->out.t[id].data)
                continue;
            double error = worst_error(p, r, (moe_tensor_id)id, of);
            cr_expect(error < 1e-7, "%s: %s is off by %.2e", lines[i],
                      moe_tensor_name((moe_tensor_id)id), error);
            checked++;
        }
        moe_reference_result_destroy(&r);
        moe_problem_destroy(&p);
    }
    cr_assert_gt(checked, 60, "only %d gradients were checked", checked);
}

/* With the plan given, the weights are an input and dS their gradient. */
Test(gradients, combine_weights) {
    moe_problem *p = props_problem("T=9 d=6 n=5 E=4 K=2 dtype=fp64 bias=1 route=uniform seed=3");
    moe_reference_result *r = props_run(p, MOE_F64, 1);
    for (int64_t i = 0; i < p->plan->n_pairs; i++) {
        double kept = p->plan->weight[i];
        p->plan->weight[i] = kept + 1e-4;
        double above = loss(p, p->plan);
        p->plan->weight[i] = kept - 1e-4;
        double below = loss(p, p->plan);
        p->plan->weight[i] = kept;
        cr_expect_float_eq((above - below) / 2e-4, props_values(r, MOE_T_DS)[i], 1e-8);
    }
    moe_reference_result_destroy(&r);
    moe_problem_destroy(&p);
}
