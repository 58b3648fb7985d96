/* Does a fault change anything on a case? Both copies run, and their results are compared as bits:
 * a fault that is not noticed there although it does is one that the case cannot show. */
#include "core/bytes.h"
#include "moeref/selftest.h"

enum { RUNS = 3 }; /* some faults begin with the third */

typedef struct digest {
    const moe_problem *problem;
    moe_layer *layer;
    uint64_t hash;
} digest;

static bool is_made(const digest *g, moe_tensor_id id) {
    const moe_tensor_role role = moe_tensor_role_of(id);
    if (role == MOE_ROLE_INPUT || role == MOE_ROLE_PARAM ||
        !moe_tensor_exists(&g->problem->layer, id, g->problem->plan != NULL))
        return false;
    return !moe_tensor_is_backward(id) || (g->problem->pass & MOE_PASS_BWD);
}

static moe_status add_tensor(digest *g, moe_tensor_id id, const moe_plan *plan) {
    const moe_layer_desc *desc = &g->problem->layer;
    moe_tensor shape = {0}, t;
    moe_tensor_shape(desc, id, g->problem->T, plan->offsets[desc->E], plan->n_pairs, &shape);
    moe_status status = moe_tensor_alloc(MOE_F32, shape.ndim, shape.shape, &t);
    if (status)
        return status;
    status = moe_layer_fetch(g->layer, id, &t);
    if (!status)
        g->hash = moe_int_hash_next(g->hash, t.data, (size_t)moe_tensor_bytes(&t));
    moe_tensor_destroy(&t);
    return status == MOE_E_UNSUPPORTED ? MOE_OK : status;
}

static moe_status add_run(digest *g) {
    const moe_plan *plan = NULL;
    moe_status status = moe_layer_forward(g->layer);
    if (!status && (g->problem->pass & MOE_PASS_BWD))
        status = moe_layer_backward(g->layer);
    if (!status)
        status = moe_layer_routing(g->layer, &plan);
    if (!status)
        g->hash =
            moe_int_hash_next(g->hash, plan->token, (size_t)plan->n_pairs * sizeof *plan->token);
    for (int id = 0; !status && id < MOE_T_COUNT; id++)
        if (is_made(g, (moe_tensor_id)id))
            status = add_tensor(g, (moe_tensor_id)id, plan);
    return status;
}

static moe_status digest_of(moe_backend *backend, const moe_problem *p, uint64_t *ret) {
    digest g = {.problem = p};
    const moe_use use = {p->T, p->dtype, p->pass, p->plan != NULL};
    moe_input input = {.tokens = p->T, .X = p->in.t[MOE_T_X], .plan = p->plan, .seed = p->seed};
    if (p->pass & MOE_PASS_BWD)
        input.dO = p->in.t[MOE_T_DO];
    moe_status status = moe_layer_prepare(backend, &p->layer, &use, &p->in, &g.layer);
    if (!status)
        status = moe_layer_set_input(g.layer, &input);
    for (int run = 0; !status && run < RUNS; run++)
        status = add_run(&g);
    moe_layer_destroy(&g.layer);
    if (!status)
        *ret = g.hash;
    return status;
}

moe_status moe_selftest_differs(moe_backend *right, moe_backend *faulty, const moe_problem *problem,
                                bool *ret) {
    uint64_t a, b;
    moe_status status = digest_of(right, problem, &a);
    if (status)
        return status;
    status = digest_of(faulty, problem, &b);
    if (status == MOE_E_NOMEM)
        return status;
    *ret = status || a != b; /* a copy that fails differs, too */
    return MOE_OK;
}
