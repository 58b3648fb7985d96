/* What a case's block is made of and makes, by name: what its problem, the last experts alone, does
 * not show. */
#include "block/written.h"
#include "layer/problem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Adds a value of that name, of which [rows][columns] is copied; NULL: zeros. */
static moe_status add(moe_block_values *v, const char *prefix, const char *name, const double *x,
                      int64_t rows, int64_t columns) {
    moe_named_tensor *to = &v->at[v->count];
    const size_t size = strlen(prefix) + strlen(name) + 1;
    char *text = malloc(size);
    to->name = text;
    v->count++;
    if (!text)
        return MOE_E_NOMEM;
    snprintf(text, size, "%s%s", prefix, name);
    const moe_status status = moe_tensor_alloc(MOE_F64, 2, (int64_t[]){rows, columns}, &to->tensor);
    if (!status && x)
        memcpy(to->tensor.data, x, (size_t)(rows * columns) * sizeof *x);
    return status;
}

static void add_gradients(const moe_int_tape *tape, int parameter, double *sum) {
    for (int i = 0; i < tape->n; i++) {
        const moe_int_step *s = &tape->step[i];
        for (int64_t j = 0; s->parameter == 1 + parameter && j < s->rows * s->columns; j++)
            sum[j] += s->g[j];
    }
}

/* All of a tape that has gone both ways. */
static moe_status collect(const moe_int_tape *tape, const double *dO, moe_block_values *ret) {
    const moe_int_parameters *all = tape->parameters;
    const moe_int_step *end = &tape->step[tape->n - 1];
    moe_status status = add(ret, "block.", "O", end->x, end->rows, end->columns);
    if (!status && dO)
        status = add(ret, "block.", "dO", dO, end->rows, end->columns);
    for (int i = 0; !status && i < all->n; i++) {
        const moe_int_parameter *p = &all->p[i];
        status = add(ret, "block.", p->name, p->w, p->rows, p->columns);
        if (status || !dO)
            continue;
        status = add(ret, "block.grad.", p->name, NULL, p->rows, p->columns);
        if (!status)
            add_gradients(tape, i, ret->at[ret->count - 1].tensor.data);
    }
    return status;
}

static moe_status both_ways(const moe_case *c, const moe_problem *drawn,
                            moe_int_parameters *parameters, moe_int_tape *tape,
                            moe_block_values *ret) {
    moe_tensor dO = {0};
    moe_status status = moe_int_block_parameters(drawn, parameters);
    if (!status)
        status = moe_int_block_write(c, parameters, tape);
    if (!status && drawn->in.t[MOE_T_DO].data)
        status = moe_tensor_cast(&drawn->in.t[MOE_T_DO], MOE_F64, &dO);
    if (!status && dO.data)
        status = moe_int_tape_backward(tape, tape->n - 1, dO.data);
    ret->at = calloc(2 + 2 * MOE_INT_PARAMETERS_MAX, sizeof *ret->at);
    if (!status)
        status = ret->at ? collect(tape, dO.data, ret) : MOE_E_NOMEM;
    moe_tensor_destroy(&dO);
    return status;
}

moe_status moe_block_values_make(const moe_case *c, const moe_log *log, moe_block_values *ret) {
    moe_block_values v = {0};
    moe_problem *drawn = NULL;
    moe_int_parameters parameters = {0};
    if (!c->block) {
        *ret = v;
        return MOE_OK;
    }
    moe_int_tape *tape = calloc(1, sizeof *tape);
    moe_status status = tape ? moe_int_problem_drawn(c, log, &drawn) : MOE_E_NOMEM;
    if (!status) {
        tape->log = log;
        status = both_ways(c, drawn, &parameters, tape, &v);
    }
    if (tape)
        moe_int_tape_destroy(tape);
    free(tape);
    moe_int_parameters_destroy(&parameters);
    moe_problem_destroy(&drawn);
    if (status == MOE_E_NOMEM)
        moe_fail(log, status, "no memory for the values of a block");
    if (status)
        moe_block_values_destroy(&v);
    else
        *ret = v;
    return status;
}

void moe_block_values_destroy(moe_block_values *v) {
    for (size_t i = 0; i < v->count; i++) {
        free((char *)v->at[i].name);
        moe_tensor_destroy(&v->at[i].tensor);
    }
    free(v->at);
    *v = (moe_block_values){0};
}
