/* Routers that differ in how logits or scores come about, token by token. */
#include "block/routers/routers.h"

#include <math.h>
#include <stdlib.h>

#define OF  moe_int_tape_of
#define TWO moe_int_tape_of_two

/* s = softmax(gelu(z) / tau), weights s of the K best (arXiv 2401.13875). */
int moe_int_write_activated(const moe_int_writing *k) {
    const int tau =
        OF(k->tape, MOE_INT_STEP_PLUS, moe_int_tape_parameter(k->tape, "tau-1", 1, 1, 0.1), 1);
    const int z = OF(k->tape, MOE_INT_STEP_GELU, moe_int_logits(k, k->x, 0), 0);
    return moe_int_routed(
        k, k->x, TWO(k->tape, MOE_INT_STEP_MUL, z, OF(k->tape, MOE_INT_STEP_INVERSE, tau, 0)));
}

/* z = e^min(theta, ln 100) cos(W x, v_i) (X-MoE, arXiv 2204.09179). */
int moe_int_write_cosine(const moe_int_writing *k) {
    const int64_t width = (k->desc.d + 1) / 2;
    const int w = moe_int_matrix(k, "W_project", width, k->desc.d);
    const int v = moe_int_matrix(k, "prototypes", k->desc.E, width);
    const int theta = moe_int_tape_parameter(k->tape, "theta", 1, 1, 1);
    const int z = moe_int_cosine(k, TWO(k->tape, MOE_INT_STEP_LINEAR, k->x, w), v);
    return moe_int_routed(
        k, k->x, TWO(k->tape, MOE_INT_STEP_MUL, z, OF(k->tape, MOE_INT_STEP_EXP, theta, log(100))));
}

/* z = W2 tanh(W1 x), 8 E wide between (MoE++'s option, arXiv 2410.07348). */
int moe_int_write_tanh(const moe_int_writing *k) {
    const int in = moe_int_matrix(k, "W_in", 8 * k->desc.E, k->desc.d);
    const int out = moe_int_matrix(k, "W_out", k->desc.E, 8 * k->desc.E);
    const int h = OF(k->tape, MOE_INT_STEP_TANH, TWO(k->tape, MOE_INT_STEP_LINEAR, k->x, in), 0);
    return moe_int_routed(k, k->x, TWO(k->tape, MOE_INT_STEP_LINEAR, h, out));
}

/* W_r is drawn and stays (SMoE-Dropout, arXiv 2303.01610); K is the case's, which a schedule
 * changes from step to step. */
int moe_int_write_frozen(const moe_int_writing *k) {
    const int w = moe_int_matrix(k, "W_r0", k->desc.E, k->desc.d);
    const int fixed = moe_int_tape_constant(k->tape, k->tape->step[w].x, k->desc.E, k->desc.d);
    return moe_int_routed(k, k->x, TWO(k->tape, MOE_INT_STEP_LINEAR, k->x, fixed));
}

/* z + delta, delta [E] for all tokens (arXiv 2510.14853). */
int moe_int_write_rewired(const moe_int_writing *k) {
    const int delta = moe_int_tape_parameter(k->tape, "delta", 1, k->desc.E, 1);
    return moe_int_routed(k, k->x,
                          TWO(k->tape, MOE_INT_STEP_ADD, moe_int_logits(k, k->x, 0), delta));
}

/* z = W_r rms(x) / sqrt(d) + scale cos(e of the sequence's task, e of expert i) (Glider, arXiv
 * 2410.07172), without its bias in the norm. The tokens are two sequences, one after the other. */
int moe_int_write_sequences(const moe_int_writing *k) {
    const int64_t width = (k->desc.d + 1) / 2, T = k->T;
    double *is_of = calloc((size_t)(2 * T), sizeof *is_of);
    for (int64_t t = 0; is_of && t < T; t++)
        is_of[2 * t + (2 * t >= T)] = 1;
    if (!is_of) {
        k->tape->status = MOE_E_NOMEM;
        return 0;
    }
    const int sequence = moe_int_tape_constant(k->tape, is_of, T, 2);
    free(is_of);
    const int task = moe_int_matrix(k, "e_task", 2, width);
    const int scale = moe_int_tape_parameter(k->tape, "scale", 1, 1, 1);
    const int near = moe_int_cosine(k, task, moe_int_matrix(k, "e_expert", k->desc.E, width));
    const int added =
        TWO(k->tape, MOE_INT_STEP_MIX, sequence, TWO(k->tape, MOE_INT_STEP_MUL, near, scale));
    const int z = moe_int_logits(k, OF(k->tape, MOE_INT_STEP_RMS, k->x, 1e-6), 0);
    return moe_int_routed(k, k->x,
                          TWO(k->tape, MOE_INT_STEP_ADD,
                              OF(k->tape, MOE_INT_STEP_TIMES, z, 1 / sqrt((double)k->desc.d)),
                              added));
}

/* Pairs of all experts whose value is above 0. */
static const moe_plan *positive(const moe_int_writing *k, int values) {
    const moe_int_step *s = &k->tape->step[values];
    const int64_t count = k->T * k->desc.E;
    int32_t *token = malloc((size_t)count * sizeof *token);
    int32_t *expert = malloc((size_t)count * sizeof *expert);
    moe_plan *plan = NULL;
    int64_t n = 0;
    moe_status status = k->tape->status ? k->tape->status : token && expert ? MOE_OK : MOE_E_NOMEM;
    for (int64_t i = 0; !status && i < count; i++) {
        if (!(s->x[i] > 0))
            continue;
        token[n] = (int32_t)(i / k->desc.E);
        expert[n++] = (int32_t)(i % k->desc.E);
    }
    if (!status)
        status = moe_plan_create(k->T, k->desc.E, n, token, expert, NULL, k->tape->log, &plan);
    free(token);
    free(expert);
    return moe_int_tape_keep_plan(k->tape, status, plan);
}

/* a = relu(W_r x); weights gamma a / sqrt(mean a^2 + eps), of every expert with a > 0 (BlockFFN,
 * arXiv 2507.08771). */
int moe_int_write_relu_rms(const moe_int_writing *k) {
    const int a = OF(k->tape, MOE_INT_STEP_RELU, moe_int_logits(k, k->x, 0), 0);
    const int gamma = moe_int_tape_parameter(k->tape, "gamma", 1, k->desc.E, 1);
    const int weights =
        TWO(k->tape, MOE_INT_STEP_MUL, OF(k->tape, MOE_INT_STEP_RMS, a, 1e-6), gamma);
    return moe_int_experts(k, k->x, weights, positive(k, a));
}
