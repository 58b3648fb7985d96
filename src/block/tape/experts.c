/* The experts as one operation of a tape: the reference on a given plan. */
#include "block/tape/tape.h"
#include "moeref/reference.h"

#include <stdlib.h>

/* The pairs at real experts, with their weights from b. */
moe_status moe_int_tape_real_plan(const moe_int_tape *t, const moe_int_step *s, moe_plan **ret) {
    const moe_plan *plan = s->plan;
    const moe_int_step *weights = &t->step[s->b];
    const int64_t E = s->desc.E, pairs = plan->offsets[E];
    int32_t *expert = malloc((size_t)(pairs + 1) * sizeof *expert);
    double *weight = malloc((size_t)(pairs + 1) * sizeof *weight);
    moe_status status = expert && weight ? MOE_OK : MOE_E_NOMEM;
    for (int64_t e = 0; !status && e < E; e++) {
        for (int64_t r = plan->offsets[e]; r < plan->offsets[e + 1]; r++) {
            expert[r] = (int32_t)e;
            weight[r] = weights->x[plan->token[r] * weights->columns + e];
        }
    }
    if (!status)
        status =
            moe_plan_create(plan->n_tokens, E, pairs, plan->token, expert, weight, t->log, ret);
    free(expert);
    free(weight);
    return status;
}

static moe_tensor view(double *x, int ndim, int64_t a, int64_t b, int64_t c) {
    return (moe_tensor){.data = x, .dtype = MOE_F64, .ndim = ndim, .shape = {a, b, c}};
}

static void add(const moe_tensor *from, double *to) {
    const double *x = from->data;
    for (int64_t i = 0; i < moe_tensor_count(from); i++)
        to[i] += x[i];
}

static void add_weights(const moe_reference_result *r, moe_int_step *weights) {
    const double *dS = r->out.t[MOE_T_DS].data;
    for (int64_t e = 0; e < r->plan->n_experts; e++)
        for (int64_t i = r->plan->offsets[e]; i < r->plan->offsets[e + 1]; i++)
            weights->g[r->plan->token[i] * weights->columns + e] += dS[i];
}

moe_status moe_int_tape_experts(moe_int_tape *t, moe_int_step *s, bool backward) {
    const moe_layer_desc *desc = &s->desc;
    const int64_t hw = moe_h_width(desc, desc->n);
    moe_reference_params params = {
        .tokens = s->rows, .precision = MOE_F64, .threads = 1, .plan_given = 1};
    moe_tensors in = {0};
    moe_plan *plan = NULL;
    moe_reference_result *r = NULL;
    in.t[MOE_T_X] = view(t->step[s->a].x, 2, s->rows, desc->d, 0);
    in.t[MOE_T_W1] = view(t->step[s->c].x, 3, desc->E, hw, desc->d);
    in.t[MOE_T_W2] = view(t->step[s->e].x, 3, desc->E, desc->d, desc->n);
    if (backward)
        in.t[MOE_T_DO] = view(s->g, 2, s->rows, desc->d, 0);
    moe_status status = moe_int_tape_real_plan(t, s, &plan);
    params.plan = plan;
    if (!status)
        status = moe_reference_run(desc, &in, &params, t->log, &r);
    if (!status && !backward)
        add(&r->out.t[MOE_T_O], s->x);
    if (!status && backward) {
        add(&r->out.t[MOE_T_DX], t->step[s->a].g);
        add(&r->out.t[MOE_T_DW1], t->step[s->c].g);
        add(&r->out.t[MOE_T_DW2], t->step[s->e].g);
        add_weights(r, &t->step[s->b]);
    }
    moe_reference_result_destroy(&r);
    moe_plan_destroy(&plan);
    return status;
}
