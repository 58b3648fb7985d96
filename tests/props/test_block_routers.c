/* Facts about the routers that are written as steps. */
#include "block.h"
#include "props.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { T = 8, D = 6, N = 4, E = 4, K = 2 };

/* The layer's own output for these weights and logits x W^T of the drawn problem. */
static moe_reference_result *plain(const char *line, const double *w_r) {
    moe_problem *p = props_problem(line);
    memcpy(p->in.t[MOE_T_W_R].data, w_r, sizeof(double) * E * D);
    moe_reference_result *r = props_run(p, MOE_F64, 1);
    moe_problem_destroy(&p);
    return r;
}

/* Where a block's own part does nothing it is the plain layer, router gradient included. */
Test(blocks, are_the_layer_where_their_own_part_is_nothing) {
    static const struct {
        const char *line, *zero;
    } rows[] = {{SMALL "block=rewired seed=5", "delta"},
                {SMALL "block=frozen seed=5", NULL},
                {SMALL "block=chained layers=1 seed=5", NULL},
                {SMALL "block=chained layers=1 score=sigmoid renorm=1 seed=5", NULL}};
    static block b;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        block_begin(rows[i].line, &b);
        if (rows[i].zero)
            memset(block_parameter(&b, rows[i].zero)->w, 0, sizeof(double) * E);
        block_again(&b);
        char line[128] = SMALL "seed=5";
        if (strstr(rows[i].line, "sigmoid"))
            strcat(line, " score=sigmoid renorm=1");
        moe_reference_result *r = plain(line, block_parameter(&b, "W_r0")->w);
        cr_expect_lt(props_nmse(block_out(&b), props_values(r, MOE_T_O), T * D), 1e-28, "%s",
                     rows[i].line);
        cr_assert_eq(moe_int_tape_backward(&b.tape, b.tape.n - 1, block_dO(&b)), MOE_OK);
        double *dX = block_gradient(&b, 0);
        cr_expect_lt(props_nmse(dX, props_values(r, MOE_T_DX), T * D), 1e-27, "%s", rows[i].line);
        free(dX);
        moe_reference_result_destroy(&r);
        block_end(&b);
    }
}

/* A cosine does not see how long tokens and prototypes are, and the temperature has a ceiling. */
Test(blocks, cosine_sees_directions) {
    static block b;
    double z[T * E];
    block_begin(SMALL "block=cosine seed=7", &b);
    const int logits = moe_int_block_last_experts(&b.tape)->b; /* weights [T][E] of the chosen */
    memcpy(z, b.tape.step[logits].x, sizeof z);
    for (int i = 0; i < T * D; i++)
        block_parameter(&b, "X")->w[i] *= 1 + i / D;
    for (int i = 0; i < E * D / 2; i++)
        block_parameter(&b, "prototypes")->w[i] *= 3;
    block_again(&b);
    cr_expect_lt(props_nmse(b.tape.step[logits].x, z, T * E), 1e-28);
    block_parameter(&b, "theta")->w[0] = 50;
    block_again(&b);
    memcpy(z, b.tape.step[logits].x, sizeof z);
    block_parameter(&b, "theta")->w[0] = 60;
    block_again(&b);
    cr_expect_eq(props_nmse(b.tape.step[logits].x, z, T * E), 0);
    block_end(&b);
}

/* W_r of a frozen router gets no gradient, and the same weights run at any K. */
Test(blocks, frozen_routers_stay_and_serve_any_k) {
    static block b;
    block_begin(SMALL "block=frozen score=softmax_topk seed=8", &b);
    for (int k = 1; k <= E; k++) {
        b.c.layer.K = k;
        block_again(&b);
        cr_assert_eq(moe_int_tape_backward(&b.tape, b.tape.n - 1, block_dO(&b)), MOE_OK);
        double *g = block_gradient(&b, b.parameters.n - 1);
        for (int i = 0; i < E * D; i++)
            cr_expect_eq(g[i], 0);
        free(g);
        cr_expect_eq(moe_int_block_last_experts(&b.tape)->plan->n_pairs, T * k);
    }
    block_end(&b);
}

/* Tokens of one sequence share what is added: all of a task's rows move alike. */
Test(blocks, sequences_are_biased_as_a_whole) {
    static block b;
    block_begin(SMALL "block=sequences seed=9", &b);
    double with[T * E], none[T * E];
    const int z = b.tape.step[moe_int_block_last_experts(&b.tape)->b].a;
    memcpy(with, b.tape.step[z].x, sizeof with);
    block_parameter(&b, "scale")->w[0] = 0;
    block_again(&b);
    memcpy(none, b.tape.step[z].x, sizeof none);
    for (int i = 0; i < T * E; i++)
        cr_expect_float_eq(with[i] - none[i],
                           with[i % E + i / E / 4 * 4 * E] - none[i % E + i / E / 4 * 4 * E],
                           1e-14);
    block_end(&b);
}

/* Active are exactly the experts with a positive logit, however many. */
Test(blocks, relu_chooses_what_is_positive) {
    static block b;
    block_begin(SMALL "block=relu_rms act=silu seed=10", &b);
    const moe_int_step *s = moe_int_block_last_experts(&b.tape);
    const double *x = block_parameter(&b, "X")->w, *w = block_parameter(&b, "W_r0")->w;
    int64_t active = 0;
    for (int e = 0; e < E; e++) {
        int64_t tokens = 0;
        for (int t = 0; t < T; t++) {
            double z = 0;
            for (int i = 0; i < D; i++)
                z += x[t * D + i] * w[e * D + i];
            tokens += z > 0;
        }
        cr_expect_eq(s->plan->offsets[e + 1] - s->plan->offsets[e], tokens);
        active += tokens;
    }
    cr_expect(active != T * K && active < T * E, "%d pairs", (int)active);
    block_end(&b);
}

/* Token t's scores depend on no later token. */
Test(blocks, mixing_is_causal) {
    static const char *const mixed[] = {SMALL "block=similarity seed=11",
                                        SMALL "block=attention seed=11"};
    static block b;
    for (size_t i = 0; i < 2; i++) {
        block_begin(mixed[i], &b);
        double before[T * D];
        memcpy(before, block_out(&b), sizeof before);
        for (int j = 5 * D; j < T * D; j++)
            block_parameter(&b, "X")->w[j] += 1;
        block_again(&b);
        cr_expect_eq(memcmp(block_out(&b), before, sizeof(double) * 5 * D), 0);
        cr_expect_gt(props_nmse(block_out(&b) + 5 * D, before + 5 * D, 3 * D), 1e-3);
        block_end(&b);
    }
}

/* Scores that are mixed have at least the mean entropy of what they are mixed from: H is concave.
 */
Test(blocks, mixing_raises_entropy) {
    static block b;
    block_begin(SMALL "block=similarity seed=12", &b);
    const moe_int_step *kept = NULL;
    for (int i = 0; i < b.tape.n; i++)
        if (b.tape.step[i].kind == MOE_INT_STEP_KEEP)
            kept = &b.tape.step[i];
    cr_assert_not_null(kept);
    const moe_int_step *mix = &b.tape.step[kept->a], *S = &b.tape.step[mix->a],
                       *r = &b.tape.step[mix->b];
    for (int t = 0; t < T; t++) {
        double of_mixed = 0, mean = 0;
        for (int e = 0; e < E; e++)
            of_mixed -= mix->x[t * E + e] * log(mix->x[t * E + e]);
        for (int i = 0; i < T * E; i++)
            mean -= S->x[t * T + i / E] * r->x[i] * log(r->x[i]);
        cr_expect_geq(of_mixed, mean - 1e-14);
    }
    block_end(&b);
}
