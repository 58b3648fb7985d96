/* Layers one after another that hand something on: their output, a state, or logits. */
#include "block/routers/routers.h"

#define OF  moe_int_tape_of
#define TWO moe_int_tape_of_two

static int linear(const moe_int_writing *k, int x, const char *name, int64_t rows,
                  int64_t columns) {
    return TWO(k->tape, MOE_INT_STEP_LINEAR, x, moe_int_matrix(k, name, rows, columns));
}

/* x^l = sum g E(x^(l-1)) + skip x^(l-1), a router for each l, the same experts (Chain-of-Experts,
 * arXiv 2506.18945). */
static int chained(const moe_int_writing *k, bool skip) {
    int x = k->x;
    for (int64_t l = 0; l < k->layers; l++) {
        const int o = moe_int_routed(k, x, moe_int_logits(k, x, l));
        x = skip ? TWO(k->tape, MOE_INT_STEP_ADD, o, x) : o;
    }
    return x;
}

int moe_int_write_chained(const moe_int_writing *k) {
    return chained(k, false);
}

int moe_int_write_chained_skip(const moe_int_writing *k) {
    return chained(k, true);
}

/* One third of a GRU's gates: W_i u + b_i, of `width` rows from `part` on. */
static int third(const moe_int_writing *k, int all, int part, int64_t width) {
    return moe_int_tape_add(k->tape, (moe_int_step){.kind = MOE_INT_STEP_COLUMNS,
                                                    .a = all,
                                                    .first = part * width,
                                                    .count = width});
}

/* r = s(i_r + h_r), q = s(i_q + h_q), m = tanh(i_m + r h_m), h' = (1 - q) m + q h; h = -1: 0 */
static int gru(const moe_int_writing *k, int u, int h, int64_t width) {
    moe_int_tape *t = k->tape;
    const int bi = moe_int_tape_parameter(t, "b_i", 1, 3 * width, 0.1);
    const int bh = moe_int_tape_parameter(t, "b_h", 1, 3 * width, 0.1);
    const int zero = OF(t, MOE_INT_STEP_TIMES, u, 0);
    const int state = h < 0 ? zero : h;
    const int i = TWO(t, MOE_INT_STEP_ADD, linear(k, u, "W_i", 3 * width, width), bi);
    const int g = TWO(t, MOE_INT_STEP_ADD, linear(k, state, "W_h", 3 * width, width), bh);
    int gate[2];
    for (int part = 0; part < 2; part++)
        gate[part] =
            OF(t, MOE_INT_STEP_SIGMOID,
               TWO(t, MOE_INT_STEP_ADD, third(k, i, part, width), third(k, g, part, width)), 0);
    const int reset = TWO(t, MOE_INT_STEP_MUL, third(k, g, 2, width), gate[0]);
    const int m =
        OF(t, MOE_INT_STEP_TANH, TWO(t, MOE_INT_STEP_ADD, third(k, i, 2, width), reset), 0);
    const int change =
        TWO(t, MOE_INT_STEP_ADD, state, OF(t, MOE_INT_STEP_TIMES, m, -1)); /* q (h - m) + m */
    return TWO(t, MOE_INT_STEP_ADD, TWO(t, MOE_INT_STEP_MUL, change, gate[1]), m);
}

/* u = W_u x; h = GRU(u, h of the layer before), the GRU shared by all layers; z = W_r h (RMoE,
 * arXiv 2408.06793). Layers add their output to their input. */
int moe_int_write_recurrent(const moe_int_writing *k) {
    const int64_t width = (k->desc.d + 1) / 2;
    int x = k->x, h = -1;
    for (int64_t l = 0; l < k->layers; l++) {
        const int u =
            TWO(k->tape, MOE_INT_STEP_LINEAR, x, moe_int_matrix_of(k, "W_u", l, width, k->desc.d));
        h = gru(k, u, h, width);
        const int z =
            TWO(k->tape, MOE_INT_STEP_LINEAR, h, moe_int_matrix_of(k, "W_r", l, k->desc.E, width));
        x = TWO(k->tape, MOE_INT_STEP_ADD, x, moe_int_routed(k, x, z));
    }
    return x;
}

enum { ZERO, COPY, CONSTANTS, EXTRA = CONSTANTS + 2 }; /* classes after the E networks */

static int class_of(const moe_int_writing *k, int weights, int64_t extra) {
    return moe_int_tape_add(k->tape, (moe_int_step){.kind = MOE_INT_STEP_COLUMNS,
                                                    .a = weights,
                                                    .first = k->desc.E + extra,
                                                    .count = 1});
}

/* a1 x + a2 v, (a1, a2) = softmax(W_c x) */
static int constant_expert(const moe_int_writing *k, int x, int64_t c) {
    moe_int_tape *t = k->tape;
    const int w = moe_int_matrix_of(k, "W_c", c, 2, k->desc.d);
    const int v = moe_int_matrix_of(k, "v", c, 1, k->desc.d);
    const int a = OF(t, MOE_INT_STEP_SOFTMAX, TWO(t, MOE_INT_STEP_LINEAR, x, w), 0);
    int part[2];
    for (int64_t i = 0; i < 2; i++)
        part[i] = moe_int_tape_add(
            t, (moe_int_step){.kind = MOE_INT_STEP_COLUMNS, .a = a, .first = i, .count = 1});
    return TWO(t, MOE_INT_STEP_ADD, TWO(t, MOE_INT_STEP_MUL, x, part[0]),
               TWO(t, MOE_INT_STEP_MIX, part[1], v));
}

/* The same weights without those of the zero expert, divided by their sum. */
static int without_zero(const moe_int_writing *k, int weights) {
    const int mask = moe_int_ones(k, 1, k->desc.E + EXTRA, k->desc.E + ZERO);
    return moe_int_shares(k, TWO(k->tape, MOE_INT_STEP_MUL, weights, mask), 1e-20);
}

static int with_constants(const moe_int_writing *k, int x, int z) {
    moe_int_tape *t = k->tape;
    const moe_plan *plan = moe_int_chosen(k, z);
    const int p = OF(t, MOE_INT_STEP_SOFTMAX, z, 0);
    const int w = without_zero(k, moe_int_kept(k, p, plan));
    int o = moe_int_experts(k, x, w, plan);
    o = TWO(t, MOE_INT_STEP_ADD, o, TWO(t, MOE_INT_STEP_MUL, x, class_of(k, w, COPY)));
    for (int64_t c = 0; c < 2; c++)
        o = TWO(t, MOE_INT_STEP_ADD, o,
                TWO(t, MOE_INT_STEP_MUL, constant_expert(k, x, c), class_of(k, w, CONSTANTS + c)));
    return o;
}

/* z^l = W^l x + W_g^l z^(l-1), E networks, a zero, a copy and two constant experts (MoE++, arXiv
 * 2410.07348). Layers have the same experts here, and add their output to their input. */
int moe_int_write_constants(const moe_int_writing *k) {
    const int64_t classes = k->desc.E + EXTRA;
    moe_int_tape *t = k->tape;
    int x = k->x, before = -1;
    for (int64_t l = 0; l < k->layers; l++) {
        int z = TWO(t, MOE_INT_STEP_LINEAR, x, moe_int_matrix_of(k, "W_r", l, classes, k->desc.d));
        if (before >= 0)
            z = TWO(t, MOE_INT_STEP_ADD, z,
                    TWO(t, MOE_INT_STEP_LINEAR, before,
                        moe_int_matrix_of(k, "W_g", l, classes, classes)));
        before = z;
        x = TWO(t, MOE_INT_STEP_ADD, x, with_constants(k, x, z));
    }
    return x;
}
