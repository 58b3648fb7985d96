/* Invariants of token rounding, and what tiles pad with it and without. */
#include "route/route.h"
#include "routed.h"

#include <math.h>
#include <stdlib.h>

/* One expert's tokens under token rounding, against plain top-K. */
static void expect_rounded(const moe_plan *topk, const moe_plan *rounded, int64_t e, int32_t rule,
                           int64_t tile) {
    int64_t f = count_of(topk, e), g = count_of(rounded, e), dropped = 0, added = 0;
    cr_assert(g % tile == 0 || g == rounded->n_tokens, "expert %d has %d rows", (int)e, (int)g);
    cr_assert_lt(llabs(g - f), tile);
    if (rule == MOE_ROUND_NEAREST)
        cr_assert_leq(2 * llabs(g - f), tile);
    if (rule == MOE_ROUND_UP)
        cr_assert_geq(g, f);
    if (rule == MOE_ROUND_DOWN)
        cr_assert_leq(g, f);
    for (int64_t t = 0; t < topk->n_tokens; t++) {
        dropped += has_pair(topk, t, e) && !has_pair(rounded, t, e);
        added += !has_pair(topk, t, e) && has_pair(rounded, t, e);
    }
    cr_assert(!dropped || !added, "expert %d drops %d and adds %d", (int)e, (int)dropped,
              (int)added);
}

Test(rounding, keeps_its_promises) {
    enum { T = 256, E = 6, K = 2, TILE = 32 };
    moe_layer_desc desc = layer(E, K, MOE_SELECT_TOPK);
    for (int32_t rule = 0; rule < MOE_ROUND_COUNT; rule++) {
        for (uint64_t seed = 0; seed < 6; seed++) {
            double *z = draw_logits(T, E, seed);
            desc.router.select = MOE_SELECT_TOPK;
            moe_plan *topk = route(&desc, T, z, NULL, seed);
            desc.router.select = MOE_SELECT_TOKEN_ROUNDING;
            desc.router.rounding = rule;
            desc.router.tile = TILE;
            moe_plan *rounded = route(&desc, T, z, NULL, seed);
            for (int64_t e = 0; e < E; e++)
                expect_rounded(topk, rounded, e, rule, TILE);
            if (rule == MOE_ROUND_BALANCE)
                cr_assert_leq(2 * llabs(rounded->n_pairs - T * K), TILE);
            moe_plan_destroy(&topk);
            moe_plan_destroy(&rounded);
            free(z);
        }
    }
}

/* With tiles of one row nothing is rounded. With renormalisation a kept pair weighs as in top-K. */
Test(rounding, of_one_is_topk) {
    enum { T = 77, E = 9, K = 3 };
    moe_layer_desc desc = layer(E, K, MOE_SELECT_TOPK);
    desc.router.renorm = 1;
    double *z = draw_logits(T, E, 5);
    moe_plan *topk = route(&desc, T, z, NULL, 0);
    desc.router.select = MOE_SELECT_TOKEN_ROUNDING;
    desc.router.tile = 1;
    moe_plan *rounded = route(&desc, T, z, NULL, 0);
    cr_assert_eq(topk->n_pairs, rounded->n_pairs);
    cr_expect_arr_eq(topk->token, rounded->token, (size_t)topk->n_pairs * sizeof *topk->token);
    cr_expect_arr_eq(topk->weight, rounded->weight, (size_t)topk->n_pairs * sizeof *topk->weight);
    moe_plan_destroy(&topk);
    moe_plan_destroy(&rounded);
    free(z);
}

/* Half to even, and the stochastic rule's mean. */
Test(rounding, counts) {
    int64_t f[4] = {16, 48, 15, 17}, g[4];
    moe_int_round_counts(MOE_ROUND_NEAREST, 32, 0, f, 4, 1000, g);
    int64_t want[4] = {0, 64, 0, 32};
    cr_expect_arr_eq(g, want, sizeof g);
    int64_t sum = 0;
    for (uint64_t seed = 0; seed < 4000; seed++) {
        moe_int_round_counts(MOE_ROUND_STOCHASTIC, 32, seed, f, 1, 1000, g);
        sum += g[0];
    }
    cr_expect_float_eq((double)sum / 4000, 16, 1.0); /* standard error 0.25 */
}

/* Rows that tiles of M add to those of the pairs, as a share of the pairs. */
static double waste(const moe_plan *plan, int64_t M) {
    int64_t rows = 0;
    for (int64_t e = 0; e < plan->n_experts; e++)
        rows += (count_of(plan, e) + M - 1) / M * M;
    return plan->n_pairs ? (double)(rows - plan->n_pairs) / (double)plan->n_pairs : 0;
}

/* Plain top-K pads half a tile for each expert, whatever the router: of 8, 4, 2 and 1 tiles of
 * tokens 6.1, 12.1, 23.9 and 46.9 %, as the authors' algorithm does on drawn routers. Every rule of
 * token rounding pads nothing. Experts differ, so that counts spread over a tile. */
Test(rounding, pads_nothing_and_topk_half_a_tile) {
    enum { E = 256, K = 8, M = 16, ROWS = 4 };
    static const double published[ROWS] = {0.061, 0.121, 0.239, 0.469};
    for (int i = 0; i < ROWS; i++) {
        const int64_t tokens = (int64_t)M * (8 >> i) * E / K;
        double *z = draw_logits(tokens, E, 11), *lean = draw_logits(1, E, 5);
        for (int64_t j = 0; j < tokens * E; j++)
            z[j] += 0.3 * lean[j % E];
        moe_layer_desc desc = layer(E, K, MOE_SELECT_TOPK);
        moe_plan *plan = route(&desc, tokens, z, NULL, 0);
        const double share = waste(plan, M);
        cr_expect(fabs(share / published[i] - 1) < 0.1, "%d tiles: %g", 8 >> i, share);
        moe_plan_destroy(&plan);
        desc = layer(E, K, MOE_SELECT_TOKEN_ROUNDING);
        desc.router.tile = M;
        for (int32_t rule = 0; rule < MOE_ROUND_COUNT; rule++) {
            desc.router.rounding = rule;
            plan = route(&desc, tokens, z, NULL, 3);
            cr_expect(plan->n_pairs > 0);
            cr_expect_eq(waste(plan, M), 0, "%d tiles, rule %d", 8 >> i, (int)rule);
            moe_plan_destroy(&plan);
        }
        free(z);
        free(lean);
    }
}
