#include "block/tape/tape.h"
#include "moeref/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a step is made with ---- */

/* Rows and columns of a new step, from its arguments. */
static void shape_of(const moe_int_tape *t, moe_int_step *s) {
    const moe_int_step *a = &t->step[s->a], *b = &t->step[s->b];
    s->rows = a->rows;
    s->columns = a->columns;
    switch ((int)s->kind) {
    case MOE_INT_STEP_LINEAR:
        s->columns = b->rows;
        break;
    case MOE_INT_STEP_MIX:
        s->columns = b->columns;
        break;
    case MOE_INT_STEP_SUM:
        s->columns = 1;
        break;
    case MOE_INT_STEP_COLUMNS:
        s->columns = s->count;
        break;
    case MOE_INT_STEP_TILE:
        s->rows = a->rows * s->count;
        break;
    }
}

static void fail(moe_int_tape *t, moe_status status) {
    if (!t->status)
        t->status = status == MOE_E_NOMEM
                        ? moe_fail(t->log, status, "no memory for a router's steps")
                        : status;
}

int moe_int_tape_add(moe_int_tape *t, moe_int_step s) {
    if (t->n == MOE_INT_STEPS_MAX)
        fail(t, moe_fail(t->log, MOE_E_INVALID, "more than %d steps", MOE_INT_STEPS_MAX));
    if (t->status)
        return 0;
    if (s.kind != MOE_INT_STEP_GIVEN)
        shape_of(t, &s);
    const size_t count = (size_t)(s.rows * s.columns) + 1;
    s.x = calloc(count, sizeof *s.x);
    s.g = calloc(count, sizeof *s.g);
    t->step[t->n] = s;
    if (s.x && s.g)
        fail(t, moe_int_step_forward(t, &t->step[t->n]));
    else
        fail(t, MOE_E_NOMEM);
    return t->n++;
}

/* Index of the parameter, or -1. */
static int find(const moe_int_parameters *all, const char *name) {
    int i = all->n - 1;
    while (i >= 0 && strcmp(all->p[i].name, name) != 0)
        i--;
    return i;
}

/* Room for a new parameter: its index, or -1. */
static int make(moe_int_parameters *all, const char *name, int64_t rows, int64_t columns) {
    moe_int_parameter *p = &all->p[all->n];
    if (all->n == MOE_INT_PARAMETERS_MAX)
        return -1;
    *p = (moe_int_parameter){.rows = rows, .columns = columns};
    snprintf(p->name, sizeof p->name, "%s", name);
    p->w = malloc((size_t)(rows * columns) * sizeof *p->w);
    return p->w ? all->n++ : -1;
}

moe_status moe_int_parameters_set(moe_int_parameters *all, const char *name, const moe_tensor *w,
                                  int64_t rows, int64_t columns) {
    const int at = make(all, name, rows, columns);
    if (at < 0)
        return MOE_E_NOMEM;
    moe_convert(all->p[at].w, MOE_F64, w->data, w->dtype, (size_t)(rows * columns));
    return MOE_OK;
}

static int add_given(moe_int_tape *t, int parameter, const double *x, int64_t rows,
                     int64_t columns) {
    const int at = moe_int_tape_add(t, (moe_int_step){.kind = MOE_INT_STEP_GIVEN,
                                                      .parameter = parameter,
                                                      .rows = rows,
                                                      .columns = columns});
    if (!t->status)
        memcpy(t->step[at].x, x, (size_t)(rows * columns) * sizeof *x);
    return at;
}

int moe_int_tape_parameter(moe_int_tape *t, const char *name, int64_t rows, int64_t columns,
                           double deviation) {
    moe_int_parameters *all = t->parameters;
    int at = find(all, name);
    if (at < 0) {
        at = make(all, name, rows, columns);
        if (at >= 0)
            moe_rng_fill(all->p[at].w, MOE_F64, 0, (size_t)(rows * columns), MOE_FILL_NORMAL,
                         deviation, all->seed, MOE_INT_PARAMETER_STREAM + (uint64_t)at);
    }
    if (at < 0)
        fail(t, MOE_E_NOMEM);
    return at < 0 ? 0 : add_given(t, 1 + at, all->p[at].w, rows, columns);
}

int moe_int_tape_constant(moe_int_tape *t, const double *x, int64_t rows, int64_t columns) {
    return add_given(t, 0, x, rows, columns);
}

const moe_plan *moe_int_tape_keep_plan(moe_int_tape *t, moe_status status, moe_plan *plan) {
    if (!status && t->n_plans == MOE_INT_PLANS_MAX) {
        moe_plan_destroy(&plan);
        status = moe_fail(t->log, MOE_E_INVALID, "more than %d plans", MOE_INT_PLANS_MAX);
    }
    fail(t, status);
    return status ? NULL : (t->plan[t->n_plans++] = plan);
}

moe_status moe_int_tape_backward(moe_int_tape *t, int end, const double *dO) {
    for (int i = 0; !t->status && i < t->n; i++)
        memset(t->step[i].g, 0, (size_t)(t->step[i].rows * t->step[i].columns) * sizeof(double));
    if (!t->status)
        memcpy(t->step[end].g, dO,
               (size_t)(t->step[end].rows * t->step[end].columns) * sizeof(double));
    for (int i = end; !t->status && i >= 0; i--)
        fail(t, moe_int_step_backward(t, &t->step[i]));
    return t->status;
}

void moe_int_tape_destroy(moe_int_tape *t) {
    for (int i = 0; i < t->n; i++) {
        free(t->step[i].x);
        free(t->step[i].g);
    }
    for (int i = 0; i < t->n_plans; i++)
        moe_plan_destroy(&t->plan[i]);
    t->n = t->n_plans = 0;
}

void moe_int_parameters_destroy(moe_int_parameters *all) {
    for (int i = 0; i < all->n; i++)
        free(all->p[i].w);
    all->n = 0;
}
