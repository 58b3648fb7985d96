/* Experts that are one network, changed a little for each. */
#include "block/routers/routers.h"
#include "moeref/rng.h"

#include <math.h>
#include <stdlib.h>

#define TWO moe_int_tape_of_two

static int tile(const moe_int_writing *k, int a) {
    return moe_int_tape_add(k->tape,
                            (moe_int_step){.kind = MOE_INT_STEP_TILE, .a = a, .count = k->desc.E});
}

static int network_in(const moe_int_writing *k) {
    return tile(k, moe_int_matrix(k, "W1_one", moe_h_width(&k->desc, k->desc.n), k->desc.d));
}

static int network_out(const moe_int_writing *k) {
    return tile(k, moe_int_matrix(k, "W2_one", k->desc.d, k->desc.n));
}

/* 0 or 1 for every unit of every expert, [E h_width][1]: gate and up go together. Drawn, three of
 * four are 1. NULL without memory. */
static double *draw_masks(const moe_int_writing *k) {
    const int64_t n = k->desc.n, hw = moe_h_width(&k->desc, n);
    double *mask = malloc((size_t)(k->desc.E * hw) * sizeof *mask);
    for (int64_t i = 0; mask && i < k->desc.E * n; i++)
        for (int up = 0; up < 2; up++)
            mask[i / n * hw + moe_h_column(k->desc.glu_layout, n, hw, i % n, up)] =
                moe_rng_uniform(k->seed, MOE_INT_PARAMETER_STREAM - 2, (uint64_t)i) < 0.75;
    return mask;
}

/* A unit whose rows of W1 are 0 is 0, as every activation of 0 is (arXiv 2410.19123). */
int moe_int_write_masked_units(const moe_int_writing *k) {
    moe_int_writing own = *k;
    double *mask = draw_masks(k);
    if (!mask) {
        k->tape->status = MOE_E_NOMEM;
        return 0;
    }
    const int units =
        moe_int_tape_constant(k->tape, mask, k->desc.E * moe_h_width(&k->desc, k->desc.n), 1);
    free(mask);
    own.w1 = TWO(k->tape, MOE_INT_STEP_MUL, network_in(k), units);
    own.w2 = network_out(k);
    return moe_int_routed(&own, k->x, moe_int_logits(k, k->x, 0));
}

/* E_i(x) = gamma_i F(x) + beta_i: gamma scales the rows of W2, beta is summed with the weights. */
int moe_int_write_modulated(const moe_int_writing *k) {
    moe_int_writing own = *k;
    const int z = moe_int_logits(k, k->x, 0);
    const int gamma = moe_int_tape_parameter(k->tape, "gamma", k->desc.E * k->desc.d, 1, 1);
    const int beta = moe_int_tape_parameter(k->tape, "beta", k->desc.E, k->desc.d, 1);
    own.w1 = network_in(k);
    own.w2 = TWO(k->tape, MOE_INT_STEP_MUL, network_out(k), gamma);
    const int o = moe_int_routed(&own, k->x, z);
    const int weights = k->tape->status ? 0 : k->tape->step[o].b;
    return TWO(k->tape, MOE_INT_STEP_ADD, o, TWO(k->tape, MOE_INT_STEP_MIX, weights, beta));
}

static int low_rank_part(const moe_int_writing *k, const char *narrow, const char *wide,
                         int64_t rows, int64_t columns, int to) {
    const int64_t E = k->desc.E, rank = 2;
    const int a = moe_int_matrix(k, wide, E * rows, rank);
    const int b = moe_int_matrix(k, narrow, E * rank, columns);
    const int product = moe_int_tape_add(
        k->tape, (moe_int_step){.kind = MOE_INT_STEP_MIX, .a = a, .b = b, .count = E});
    return TWO(k->tape, MOE_INT_STEP_ADD, to, product);
}

/* W_e = W + A_e B_e, of rank 2, for both matrices (LoRA experts). */
int moe_int_write_low_rank(const moe_int_writing *k) {
    moe_int_writing own = *k;
    const int64_t d = k->desc.d, n = k->desc.n;
    own.w1 = low_rank_part(k, "B1", "A1", moe_h_width(&k->desc, n), d, network_in(k));
    own.w2 = low_rank_part(k, "B2", "A2", d, n, network_out(k));
    return moe_int_routed(&own, k->x, moe_int_logits(k, k->x, 0));
}
