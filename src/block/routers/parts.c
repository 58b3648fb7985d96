#include "block/routers/routers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const moe_int_step *step(const moe_int_writing *k, int at) {
    return &k->tape->step[at];
}

int moe_int_matrix(const moe_int_writing *k, const char *name, int64_t rows, int64_t columns) {
    return moe_int_tape_parameter(k->tape, name, rows, columns, 1 / sqrt((double)columns));
}

int moe_int_matrix_of(const moe_int_writing *k, const char *name, int64_t l, int64_t rows,
                      int64_t columns) {
    char text[16];
    snprintf(text, sizeof text, "%s%d", name, (int)l);
    return moe_int_matrix(k, text, rows, columns);
}

int moe_int_ones(const moe_int_writing *k, int64_t rows, int64_t columns, int64_t but) {
    double *x = malloc((size_t)(rows * columns) * sizeof *x);
    for (int64_t i = 0; x && i < rows * columns; i++)
        x[i] = i != but;
    const int at = x ? moe_int_tape_constant(k->tape, x, rows, columns) : 0;
    if (!x && !k->tape->status)
        k->tape->status = MOE_E_NOMEM;
    free(x);
    return at;
}

int moe_int_logits(const moe_int_writing *k, int x, int64_t l) {
    const int w = moe_int_matrix_of(k, "W_r", l, k->desc.E, k->desc.d);
    return moe_int_tape_of_two(k->tape, MOE_INT_STEP_LINEAR, x, w);
}

const moe_plan *moe_int_chosen(const moe_int_writing *k, int scores) {
    moe_layer_desc desc = k->desc;
    moe_plan *plan = NULL;
    desc.E = step(k, scores)->columns; /* of more classes than experts where a block has them */
    moe_status status = k->tape->status;
    if (!status)
        status = moe_route(&desc, k->T, step(k, scores)->x, NULL, k->seed, k->tape->log, &plan);
    return moe_int_tape_keep_plan(k->tape, status, plan);
}

int moe_int_kept(const moe_int_writing *k, int values, const moe_plan *plan) {
    return moe_int_tape_add(k->tape,
                            (moe_int_step){.kind = MOE_INT_STEP_KEEP, .a = values, .plan = plan});
}

int moe_int_shares(const moe_int_writing *k, int values, double eps) {
    int sum = moe_int_tape_of(k->tape, MOE_INT_STEP_SUM, values, 0);
    sum = moe_int_tape_of(k->tape, MOE_INT_STEP_PLUS, sum, eps);
    return moe_int_tape_of_two(k->tape, MOE_INT_STEP_MUL, values,
                               moe_int_tape_of(k->tape, MOE_INT_STEP_INVERSE, sum, 0));
}

/* Rows of length 1: those of a root mean square of 1, over sqrt(columns). */
static int unit_rows(const moe_int_writing *k, int a) {
    const int rms = moe_int_tape_of(k->tape, MOE_INT_STEP_RMS, a, 0);
    const double columns = (double)step(k, a)->columns;
    return moe_int_tape_of(k->tape, MOE_INT_STEP_TIMES, rms, 1 / sqrt(columns));
}

int moe_int_cosine(const moe_int_writing *k, int a, int b) {
    return moe_int_tape_of_two(k->tape, MOE_INT_STEP_LINEAR, unit_rows(k, a), unit_rows(k, b));
}

int moe_int_experts(const moe_int_writing *k, int x, int weights, const moe_plan *plan) {
    return moe_int_tape_add(k->tape, (moe_int_step){.kind = MOE_INT_STEP_EXPERTS,
                                                    .a = x,
                                                    .b = weights,
                                                    .c = k->w1,
                                                    .e = k->w2,
                                                    .plan = plan,
                                                    .desc = k->desc});
}

int moe_int_routed(const moe_int_writing *k, int x, int logits) {
    const moe_plan *plan = moe_int_chosen(k, logits);
    const int weights = moe_int_tape_add(
        k->tape,
        (moe_int_step){.kind = MOE_INT_STEP_ROUTE, .a = logits, .plan = plan, .desc = k->desc});
    return moe_int_experts(k, x, weights, plan);
}
