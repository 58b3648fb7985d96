/* Facts about blocks that choose tokens, hand something on, or have experts of their own. */
#include "block.h"
#include "props.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { T = 8, D = 6, N = 4, E = 4 };

/* No expert has a token of the other kind, and each has exactly its number. */
Test(blocks, modalities_do_not_mix) {
    static block b;
    block_begin("T=40 d=6 n=4 E=4 K=1 dtype=fp64 block=modalities seed=13", &b);
    const moe_plan *plan = moe_int_block_last_experts(&b.tape)->plan;
    int64_t tokens[2] = {0, 0};
    for (int t = 0; t < 40; t++)
        tokens[moe_int_modality(13, t)]++;
    cr_assert(tokens[0] > 0 && tokens[1] > 0);
    for (int e = 0; e < E; e++) {
        cr_expect_eq(plan->offsets[e + 1] - plan->offsets[e], (tokens[e >= 2] + 1) / 2);
        for (int64_t r = plan->offsets[e]; r < plan->offsets[e + 1]; r++)
            cr_expect_eq(moe_int_modality(13, plan->token[r]), e >= 2);
    }
    block_end(&b);
}

/* Tokens that are left out come through unchanged, bit for bit; the rest do not; and those of the
 * next turn are among those of this one. */
Test(blocks, skipped_tokens_stay) {
    static block b;
    block_begin("T=16 d=6 n=4 E=1 K=1 dtype=fp64 capacity=7 block=recursions layers=2 seed=14", &b);
    const moe_plan *first = b.tape.plan[0], *second = b.tape.plan[1];
    unsigned char in[16] = {0};
    cr_expect_eq(first->n_pairs, 7);
    cr_expect_eq(second->n_pairs, 4);
    for (int64_t i = 0; i < 7; i++)
        in[first->token[i]] = 1;
    for (int64_t i = 0; i < 4; i++)
        cr_expect(in[second->token[i]]);
    for (int t = 0; t < 16; t++) {
        const bool same = memcmp(block_out(&b) + t * D, block_parameter(&b, "X")->w + t * D,
                                 sizeof(double) * D) == 0;
        cr_expect_eq(same, !in[t]);
    }
    block_end(&b);
}

/* Without weights, all experts for all tokens are one network of E n units, and the router learns
 * nothing. */
Test(blocks, unweighted_slices_are_a_dense_network) {
    static block b;
    block_begin(
        "T=8 d=6 n=4 E=4 K=4 dtype=fp64 act=gelu block=unweighted select=expert_choice seed=15",
        &b);
    const double *w1 = block_parameter(&b, "W1")->w, *w2 = block_parameter(&b, "W2")->w;
    double o[T * D] = {0};
    for (int t = 0; t < T; t++) {
        for (int u = 0; u < E * N; u++) {
            double h = 0;
            for (int i = 0; i < D; i++)
                h += block_parameter(&b, "X")->w[t * D + i] * w1[u * D + i];
            for (int i = 0; i < D; i++)
                o[t * D + i] +=
                    0.5 * h * (1 + erf(h * M_SQRT1_2)) * w2[(u / N * D + i) * N + u % N];
        }
    }
    cr_expect_lt(props_nmse(block_out(&b), o, T * D), 1e-28);
    cr_assert_eq(moe_int_tape_backward(&b.tape, b.tape.n - 1, block_dO(&b)), MOE_OK);
    double *g = block_gradient(&b, b.parameters.n - 1);
    cr_expect_str_eq(b.parameters.p[b.parameters.n - 1].name, "W_r0");
    for (int i = 0; i < E * D; i++)
        cr_expect_eq(g[i], 0);
    free(g);
    block_end(&b);
}

/* C iterations with K / C experts cost what the layer with K does. */
Test(blocks, chains_cost_what_the_layer_does) {
    static block b;
    block_begin("T=8 d=6 n=4 E=4 K=1 dtype=fp64 block=chained layers=2 seed=16", &b);
    int64_t pairs = 0;
    for (int i = 0; i < b.tape.n_plans; i++)
        pairs += b.tape.plan[i]->n_pairs;
    cr_expect_eq(moe_layer_flops(&b.c.layer, T, pairs, 0),
                 moe_layer_flops(&b.c.layer, T, T * 2, 0));
    block_end(&b);
}

/* A gate that keeps all of the state routes every layer as the first one: here, by the same maps
 * and with the state of h = 0, evenly. */
Test(blocks, a_state_that_stays_routes_alike) {
    static block b;
    block_begin(SMALL "block=recurrent layers=3 seed=17", &b);
    for (int i = D / 2; i < D; i++)
        block_parameter(&b, "b_i")->w[i] = 1000; /* q = 1 */
    block_again(&b);
    for (int l = 1; l < 3; l++)
        cr_expect_arr_eq(b.tape.plan[l]->offsets, b.tape.plan[0]->offsets,
                         sizeof(int64_t) * (E + 1));
    const moe_int_step *weights = &b.tape.step[moe_int_block_last_experts(&b.tape)->b];
    for (int64_t i = 0; i < T * E; i++)
        cr_expect(weights->x[i] == 0 || fabs(weights->x[i] - 0.25) < 1e-15);
    block_end(&b);
}

/* Tokens whose choices are the zero expert alone have no output; weights of the rest sum to 1. */
Test(blocks, zero_and_constant_experts) {
    static block b;
    block_begin("T=40 d=6 n=4 E=4 K=2 dtype=fp64 block=constants layers=1 seed=18", &b);
    const moe_int_step *w = &b.tape.step[moe_int_block_last_experts(&b.tape)->b];
    int64_t extra = 0;
    for (int t = 0; t < 40; t++) {
        double sum = 0;
        for (int c = 0; c < E + 4; c++)
            sum += w->x[t * (E + 4) + c];
        cr_expect_eq(w->x[t * (E + 4) + E], 0);
        cr_expect_float_eq(sum, 1, 1e-14);
        for (int c = E + 1; c < E + 4; c++)
            extra += w->x[t * (E + 4) + c] > 0;
    }
    cr_expect_gt(extra, 10, "only %d pairs of copy and constant experts", (int)extra);
    block_end(&b);
}

/* Two layers without W_g are two without a residual of logits: z^1 alone decides the second. */
Test(blocks, logits_are_handed_on) {
    static block b;
    block_begin(SMALL "block=constants layers=2 seed=19", &b);
    double with[T * D];
    memcpy(with, block_out(&b), sizeof with);
    memset(block_parameter(&b, "W_g1")->w, 0, sizeof(double) * (E + 4) * (E + 4));
    block_again(&b);
    cr_expect_gt(props_nmse(block_out(&b), with, T * D), 1e-6);
    block_end(&b);
}

/* A masked unit is one that is not there: its part of dW1_one is that of the other experts. */
Test(blocks, masked_units_do_nothing) {
    static block b;
    block_begin(SMALL "block=masked_units seed=20", &b);
    const moe_int_step *s = moe_int_block_last_experts(&b.tape);
    int64_t masked = 0;
    for (int row = 0; row < E * 2 * N; row++) {
        const double *w = b.tape.step[s->c].x + row * D;
        const double *one = block_parameter(&b, "W1_one")->w + row % (2 * N) * D;
        const bool is_masked = w[0] == 0;
        masked += is_masked;
        for (int i = 0; i < D; i++)
            cr_expect_eq(w[i], is_masked ? 0 : one[i]);
        const int other = row % (2 * N) < N ? row + N : row - N;
        cr_expect_eq(is_masked, b.tape.step[s->c].x[other * D] == 0, "gate and up");
    }
    cr_expect(masked > 0 && masked < E * N);
    block_end(&b);
}

/* sum g (gamma F(x) + beta) = (sum g gamma) F(x) + sum g beta */
Test(blocks, modulated_experts_collapse) {
    static block b;
    block_begin(SMALL "block=modulated seed=21", &b);
    const double *gamma = block_parameter(&b, "gamma")->w, *beta = block_parameter(&b, "beta")->w;
    const double *w1 = block_parameter(&b, "W1_one")->w, *w2 = block_parameter(&b, "W2_one")->w;
    const double *g = b.tape.step[moe_int_block_last_experts(&b.tape)->b].x;
    double o[T * D];
    for (int t = 0; t < T; t++) {
        const double *x = block_parameter(&b, "X")->w + t * D;
        double f[D] = {0};
        for (int u = 0; u < N; u++) {
            double gate = 0, up = 0;
            for (int i = 0; i < D; i++) {
                gate += x[i] * w1[u * D + i];
                up += x[i] * w1[(N + u) * D + i];
            }
            for (int i = 0; i < D; i++)
                f[i] += gate / (1 + exp(-gate)) * up * w2[i * N + u];
        }
        for (int i = 0; i < D; i++) {
            double scale = 0, shift = 0;
            for (int e = 0; e < E; e++) {
                scale += g[t * E + e] * gamma[e * D + i];
                shift += g[t * E + e] * beta[e * D + i];
            }
            o[t * D + i] = scale * f[i] + shift;
        }
    }
    cr_expect_lt(props_nmse(block_out(&b), o, T * D), 1e-28);
    block_end(&b);
}

/* Without the narrow matrices all experts are one. */
Test(blocks, low_rank_experts_differ_by_their_products) {
    static block b;
    block_begin(SMALL "block=low_rank seed=22", &b);
    memset(block_parameter(&b, "B1")->w, 0, sizeof(double) * E * 2 * D);
    memset(block_parameter(&b, "A2")->w, 0, sizeof(double) * E * D * 2);
    block_again(&b);
    const moe_int_step *s = moe_int_block_last_experts(&b.tape);
    for (int e = 1; e < E; e++) {
        cr_expect_arr_eq(b.tape.step[s->c].x + e * 2 * N * D, b.tape.step[s->c].x,
                         sizeof(double) * 2 * N * D);
        cr_expect_arr_eq(b.tape.step[s->e].x + e * D * N, b.tape.step[s->e].x,
                         sizeof(double) * D * N);
    }
    block_end(&b);
}

/* The temperature scales logits: tau' = 2 tau and z' = 2 z leave the weights. */
Test(blocks, temperature_divides) {
    static block b;
    double one[T * E];
    block_begin(SMALL "block=activated seed=23", &b);
    const int weights = moe_int_block_last_experts(&b.tape)->b;
    const double tau = block_parameter(&b, "tau-1")->w[0];
    memcpy(one, b.tape.step[b.tape.step[weights].a].x, sizeof one);
    block_parameter(&b, "tau-1")->w[0] = 1 + 2 * tau;
    block_again(&b);
    for (int i = 0; i < T * E; i++)
        cr_expect_float_eq(2 * b.tape.step[b.tape.step[weights].a].x[i], one[i], 1e-14);
    block_end(&b);
}

/* A wide tanh router of small logits is the linear one of the product of its layers. */
Test(blocks, tanh_is_linear_near_zero) {
    static block b;
    block_begin(SMALL "block=tanh seed=24", &b);
    moe_int_parameter *in = block_parameter(&b, "W_in"), *out = block_parameter(&b, "W_out");
    for (int i = 0; i < 8 * E * D; i++)
        in->w[i] *= 1e-5;
    block_again(&b);
    const double *z = b.tape.step[b.tape.step[moe_int_block_last_experts(&b.tape)->b].a].x;
    for (int t = 0; t < T; t++) {
        for (int e = 0; e < E; e++) {
            double sum = 0;
            for (int u = 0; u < 8 * E; u++)
                for (int i = 0; i < D; i++)
                    sum += out->w[e * 8 * E + u] * in->w[u * D + i] *
                           block_parameter(&b, "X")->w[t * D + i];
            cr_expect_float_eq(z[t * E + e], sum, 1e-12);
        }
    }
    block_end(&b);
}

/* What a case of a block gives to backends is what its last experts see. */
Test(blocks, the_problem_is_the_last_experts) {
    static block b;
    block_begin(SMALL "block=chained_skip layers=3 seed=25", &b);
    moe_problem *p = props_problem(SMALL "block=chained_skip layers=3 seed=25");
    const moe_int_step *s = moe_int_block_last_experts(&b.tape);
    cr_assert_not_null(p->plan);
    cr_expect_arr_eq(p->in.t[MOE_T_X].data, b.tape.step[s->a].x, sizeof(double) * T * D);
    moe_reference_result *r = props_run(p, MOE_F64, 1);
    cr_expect_arr_eq(r->out.t[MOE_T_O].data, s->x, sizeof(double) * T * D);
    moe_reference_result_destroy(&r);
    moe_problem_destroy(&p);
    block_end(&b);
}
