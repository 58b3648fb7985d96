/* From a case to a problem, which is the layer of the case or the last experts of its block. */
#include "block/routers/routers.h"
#include "block/written.h"
#include "layer/problem.h"

#include <stdlib.h>

#define WRITE(name, meaning) [MOE_INT_BLOCK_##name] = moe_int_write_##name,
static const moe_int_write writes[MOE_INT_BLOCK_COUNT] = {MOE_INT_BLOCKS(WRITE)};

moe_status moe_int_block_parameters(const moe_problem *p, moe_int_parameters *ret) {
    const moe_layer_desc *desc = &p->layer;
    ret->seed = p->seed;
    moe_status status = moe_int_parameters_set(ret, "X", &p->in.t[MOE_T_X], p->T, desc->d);
    if (!status)
        status = moe_int_parameters_set(ret, "W1", &p->in.t[MOE_T_W1],
                                        desc->E * moe_h_width(desc, desc->n), desc->d);
    if (!status)
        status = moe_int_parameters_set(ret, "W2", &p->in.t[MOE_T_W2], desc->E * desc->d, desc->n);
    return status;
}

moe_status moe_int_block_write(const moe_case *c, moe_int_parameters *parameters,
                               moe_int_tape *tape) {
    const moe_layer_desc *desc = &c->layer;
    tape->parameters = parameters;
    moe_int_writing k = {
        .tape = tape, .desc = *desc, .T = c->T, .layers = c->layers, .seed = c->seed};
    k.x = moe_int_matrix(&k, "X", c->T, desc->d);
    k.w1 = moe_int_matrix(&k, "W1", desc->E * moe_h_width(desc, desc->n), desc->d);
    k.w2 = moe_int_matrix(&k, "W2", desc->E * desc->d, desc->n);
    writes[c->block](&k);
    return tape->status;
}

const moe_int_step *moe_int_block_last_experts(const moe_int_tape *tape) {
    int i = tape->n - 1;
    while (tape->step[i].kind != MOE_INT_STEP_EXPERTS)
        i--;
    return &tape->step[i];
}

static void give(moe_problem *p, moe_tensor_id id, const double *x) {
    moe_tensor *t = &p->in.t[id];
    if (t->data)
        moe_convert(t->data, t->dtype, x, MOE_F64, (size_t)moe_tensor_count(t));
}

/* The problem of the tape's last experts: their input, weights and plan, and the gradient that
 * arrives at their output. */
static moe_status become(const moe_int_tape *tape, moe_problem *p) {
    static const moe_tensor_id router[] = {MOE_T_W_R, MOE_T_B_R, MOE_T_B_SELECT};
    const moe_int_step *s = moe_int_block_last_experts(tape);
    moe_layer_desc plain;
    moe_layer_desc_init(&plain);
    p->layer.router = plain.router;
    for (size_t i = 0; i < sizeof router / sizeof *router; i++)
        moe_tensor_destroy(&p->in.t[router[i]]);
    give(p, MOE_T_X, tape->step[s->a].x);
    give(p, MOE_T_W1, tape->step[s->c].x);
    give(p, MOE_T_W2, tape->step[s->e].x);
    give(p, MOE_T_DO, s->g);
    return moe_int_tape_real_plan(tape, s, &p->plan);
}

static moe_status backward(moe_int_tape *tape, const moe_problem *p) {
    moe_tensor dO = {0};
    if (!p->in.t[MOE_T_DO].data)
        return MOE_OK;
    moe_status status = moe_tensor_cast(&p->in.t[MOE_T_DO], MOE_F64, &dO);
    if (!status)
        status = moe_int_tape_backward(tape, tape->n - 1, dO.data);
    moe_tensor_destroy(&dO);
    return status;
}

static moe_status into_block(const moe_case *c, const moe_log *log, moe_problem *p) {
    moe_int_parameters parameters = {0};
    moe_int_tape *tape = calloc(1, sizeof *tape);
    moe_status status = tape ? moe_int_block_parameters(p, &parameters) : MOE_E_NOMEM;
    if (status)
        moe_fail(log, status, "no memory for the block of \"%s\"", p->name);
    if (!status) {
        tape->log = log;
        status = moe_int_block_write(c, &parameters, tape);
    }
    if (!status)
        status = backward(tape, p);
    if (!status)
        status = become(tape, p);
    if (tape)
        moe_int_tape_destroy(tape);
    free(tape);
    moe_int_parameters_destroy(&parameters);
    return status;
}

moe_status moe_problem_from_case(const moe_case *c, const moe_log *log, moe_problem **ret) {
    moe_problem *p = NULL;
    moe_status status = moe_int_problem_drawn(c, log, &p);
    if (!status && c->block)
        status = into_block(c, log, p);
    if (status)
        moe_problem_destroy(&p);
    else
        *ret = p;
    return status;
}
