/* Invariants of every way of choosing experts, and of plans. */
#include "props.h"
#include "route/route.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double *draw_logits(int64_t tokens, int64_t n, uint64_t seed) {
    double *z = malloc((size_t)(tokens * n) * sizeof *z);
    moe_rng_fill(z, MOE_F64, 0, (size_t)(tokens * n), MOE_FILL_NORMAL, 1.5, seed, 99);
    return z;
}

static moe_layer_desc layer(int64_t E, int64_t K, int32_t select) {
    moe_layer_desc desc;
    moe_layer_desc_init(&desc);
    desc.d = desc.n = 8;
    desc.E = E;
    desc.K = K;
    desc.router.select = select;
    return desc;
}

static moe_plan *route(const moe_layer_desc *desc, int64_t tokens, const double *z,
                       const double *bias, uint64_t seed) {
    moe_plan *plan = NULL;
    cr_assert_eq(moe_layer_desc_check(desc, tokens, NULL), MOE_OK);
    cr_assert_eq(moe_route(desc, tokens, z, bias, seed, NULL, &plan), MOE_OK);
    cr_assert_eq(moe_plan_check(plan, NULL), MOE_OK);
    return plan;
}

static int has_pair(const moe_plan *plan, int64_t token, int64_t expert) {
    for (int64_t p = plan->offsets[expert]; p < plan->offsets[expert + 1]; p++)
        if (plan->token[p] == token)
            return 1;
    return 0;
}

static int64_t count_of(const moe_plan *plan, int64_t e) {
    return plan->offsets[e + 1] - plan->offsets[e];
}

/* Best first, ties by index, NaN after every number, whatever K is. */
Test(routing, topk_is_in_order) {
    enum { E = 40 };
    double *z = draw_logits(1, E, 7);
    for (int64_t i = 0; i < E; i++)
        z[i] = i % 13 == 5 ? NAN : round(2 * z[i]) / 2;
    for (int64_t K = 1; K <= E; K++) {
        int32_t best[E];
        cr_assert_eq(moe_int_topk(z, NULL, E, K, best), K);
        for (int64_t k = 1; k < K; k++) {
            double a = z[best[k - 1]], b = z[best[k]];
            bool tie = a == b || (isnan(a) && isnan(b));
            cr_expect(tie ? best[k - 1] < best[k] : a > b || isnan(b), "K %d, rank %d", (int)K,
                      (int)k);
        }
    }
    free(z);
}

/* An expert is chosen if and only if fewer than K others come before it. */
Test(routing, topk_is_exactly_the_k_best) {
    enum { T = 200, E = 17, K = 5 };
    moe_layer_desc desc = layer(E, K, MOE_SELECT_TOPK);
    double *z = draw_logits(T, E, 1);
    for (int64_t i = 0; i < T * E; i++)
        z[i] = round(2 * z[i]) / 2; /* many ties */
    moe_plan *plan = route(&desc, T, z, NULL, 0);
    for (int64_t t = 0; t < T; t++) {
        for (int64_t e = 0; e < E; e++) {
            int before = 0;
            for (int64_t j = 0; j < E; j++)
                before += z[t * E + j] > z[t * E + e] || (z[t * E + j] == z[t * E + e] && j < e);
            cr_assert_eq(has_pair(plan, t, e), before < K, "token %d expert %d", (int)t, (int)e);
        }
    }
    moe_plan_destroy(&plan);
    free(z);
}

Test(routing, equal_logits_go_to_the_lowest_experts) {
    double z[12] = {0};
    moe_layer_desc desc = layer(6, 3, MOE_SELECT_TOPK);
    moe_plan *plan = route(&desc, 2, z, NULL, 0);
    for (int64_t e = 0; e < 6; e++)
        cr_expect_eq(count_of(plan, e), e < 3 ? 2 : 0);
    moe_plan_destroy(&plan);
}

/* A NaN ranks below every number; a token of NaNs still gets K experts, with NaN weights. */
Test(routing, nan_logits_rank_last) {
    double z[8] = {NAN, -5, NAN, -6, NAN, NAN, NAN, NAN};
    moe_layer_desc desc = layer(4, 2, MOE_SELECT_TOPK);
    moe_plan *plan = route(&desc, 2, z, NULL, 0);
    cr_expect(has_pair(plan, 0, 1) && has_pair(plan, 0, 3));
    cr_expect(has_pair(plan, 1, 0) && has_pair(plan, 1, 1));
    cr_expect(isnan(plan->weight[plan->pair_of_token[plan->token_offsets[1]]]));
    moe_plan_destroy(&plan);
}

Test(routing, huge_logits_do_not_overflow) {
    double z[4] = {1e308, -1e308, 9e307, 0};
    moe_layer_desc desc = layer(4, 2, MOE_SELECT_TOPK);
    for (int score = 0; score < 3; score++) {
        desc.router.score = score;
        moe_plan *plan = route(&desc, 1, z, NULL, 0);
        cr_expect(has_pair(plan, 0, 0) && has_pair(plan, 0, 2));
        cr_expect(isfinite(plan->weight[0]) && isfinite(plan->weight[1]));
        moe_plan_destroy(&plan);
    }
}

Test(routing, selection_bias_chooses_but_does_not_weigh) {
    double z[4] = {1, 2, 3, 4}, bias[4] = {10, 0, 0, 0};
    moe_layer_desc desc = layer(4, 1, MOE_SELECT_TOPK);
    desc.router.score = MOE_SCORE_SIGMOID;
    desc.router.select_bias = 1;
    moe_plan *plan = route(&desc, 1, z, bias, 0);
    cr_expect_eq(count_of(plan, 0), 1);
    cr_expect_float_eq(plan->weight[0], 1 / (1 + exp(-1.0)), 1e-15);
    moe_plan_destroy(&plan);
}

Test(routing, groups_limit_the_choice) {
    enum { T = 100, E = 24, K = 4, G = 6, KEPT = 2 };
    moe_layer_desc desc = layer(E, K, MOE_SELECT_GROUP_TOPK);
    desc.router.score = MOE_SCORE_SIGMOID;
    desc.router.groups = G;
    desc.router.topk_groups = KEPT;
    double *z = draw_logits(T, E, 2);
    moe_plan *plan = route(&desc, T, z, NULL, 0);
    for (int64_t t = 0; t < T; t++) {
        int used[G] = {0}, groups = 0, experts = 0;
        for (int64_t e = 0; e < E; e++) {
            experts += has_pair(plan, t, e);
            used[e / (E / G)] |= has_pair(plan, t, e);
        }
        for (int g = 0; g < G; g++)
            groups += used[g];
        cr_assert(experts == K && groups <= KEPT, "token %d: %d experts, %d groups", (int)t,
                  experts, groups);
    }
    moe_plan_destroy(&plan);
    free(z);
}

Test(routing, expert_choice_fills_every_expert) {
    enum { T = 50, E = 8, K = 3 };
    moe_layer_desc desc = layer(E, K, MOE_SELECT_EXPERT_CHOICE);
    double *z = draw_logits(T, E, 3);
    moe_plan *plan = route(&desc, T, z, NULL, 0);
    for (int64_t e = 0; e < E; e++)
        cr_expect_eq(count_of(plan, e), (T * K + E - 1) / E);
    moe_plan_destroy(&plan);
    free(z);
}

Test(routing, capacity_keeps_the_first_tokens) {
    enum { T = 64, E = 4, K = 2, CAPACITY = 10 };
    moe_layer_desc desc = layer(E, K, MOE_SELECT_TOPK);
    double *z = draw_logits(T, E, 4);
    moe_plan *all = route(&desc, T, z, NULL, 0);
    desc.router.select = MOE_SELECT_CAPACITY;
    desc.router.capacity = CAPACITY;
    moe_plan *kept = route(&desc, T, z, NULL, 0);
    for (int64_t e = 0; e < E; e++) {
        int64_t want = count_of(all, e) < CAPACITY ? count_of(all, e) : CAPACITY;
        cr_assert_eq(count_of(kept, e), want);
        cr_assert_arr_eq(kept->token + kept->offsets[e], all->token + all->offsets[e],
                         (size_t)want * sizeof *kept->token);
    }
    moe_plan_destroy(&all);
    moe_plan_destroy(&kept);
    free(z);
}

/* A group's choice is that of its tokens alone, the last one's too, which is shorter. */
Test(routing, capacity_of_groups_is_each_groups_own) {
    enum { T = 64, E = 4, K = 2, CAPACITY = 5, GROUP = 24 };
    moe_layer_desc desc = layer(E, K, MOE_SELECT_CAPACITY);
    double *z = draw_logits(T, E, 5);
    desc.router.capacity = CAPACITY;
    moe_plan *together = route(&desc, T, z, NULL, 0);
    desc.router.capacity_group = GROUP;
    moe_plan *all = route(&desc, T, z, NULL, 0);
    cr_assert_gt(all->n_pairs, together->n_pairs);
    desc.router.capacity_group = 0;
    for (int64_t first = 0, pairs = 0; first < T; first += GROUP) {
        const int64_t tokens = T - first < GROUP ? T - first : GROUP;
        moe_plan *own = route(&desc, tokens, z + first * E, NULL, 0);
        for (int64_t e = 0; e < E; e++)
            for (int64_t p = own->offsets[e]; p < own->offsets[e + 1]; p++)
                cr_assert(has_pair(all, first + own->token[p], e));
        pairs += own->n_pairs;
        cr_assert(first + GROUP < T || pairs == all->n_pairs);
        moe_plan_destroy(&own);
    }
    moe_plan_destroy(&together);
    moe_plan_destroy(&all);
    free(z);
}

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

Test(routing, token_rounding_keeps_its_promises) {
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
Test(routing, token_rounding_of_one_is_topk) {
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
Test(routing, rounded_counts) {
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

Test(plan, subset_keeps_pairs_and_order) {
    moe_layer_desc desc = layer(8, 3, MOE_SELECT_TOPK);
    double *z = draw_logits(40, 8, 6);
    moe_plan *plan = route(&desc, 40, z, NULL, 0), *part = NULL;
    int64_t tokens[] = {39, 0, 17};
    cr_assert_eq(moe_plan_subset(plan, tokens, 3, &part), MOE_OK);
    cr_assert_eq(moe_plan_check(part, NULL), MOE_OK);
    cr_assert_eq(part->n_pairs, 9);
    for (int64_t i = 0; i < 3; i++)
        for (int64_t e = 0; e < 8; e++)
            cr_expect_eq(has_pair(part, i, e), has_pair(plan, tokens[i], e));
    moe_plan_destroy(&plan);
    moe_plan_destroy(&part);
    free(z);
}

Test(plan, bad_pairs_are_refused) {
    int32_t token[] = {0, 1, 0}, expert[] = {2, 1, 2};
    moe_plan *plan = NULL;
    cr_expect_eq(moe_plan_create(2, 3, 3, token, expert, NULL, NULL, &plan), MOE_E_INVALID);
    token[2] = 2;
    cr_expect_eq(moe_plan_create(2, 3, 3, token, expert, NULL, NULL, &plan), MOE_E_INVALID);
    token[2] = -1;
    cr_expect_eq(moe_plan_create(2, 3, 3, token, expert, NULL, NULL, &plan), MOE_E_INVALID);
    cr_expect_null(plan);
    cr_expect_eq(moe_plan_create(2, 3, 2, token, expert, NULL, NULL, &plan), MOE_OK);
    moe_plan_destroy(&plan);
}

/* Every field of a plan from outside is checked. */
Test(plan, corruption_is_found) {
    moe_layer_desc desc = layer(4, 2, MOE_SELECT_TOPK);
    double *z = draw_logits(10, 4, 7);
    moe_plan *plan = route(&desc, 10, z, NULL, 0);
    int64_t *fields[] = {plan->offsets,       plan->offsets + 2,       plan->offsets + 4,
                         plan->token_offsets, plan->token_offsets + 5, plan->pair_of_token + 3};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        int64_t kept = *fields[i];
        *fields[i] = kept + 3;
        cr_expect_eq(moe_plan_check(plan, NULL), MOE_E_INVALID, "field %d", (int)i);
        *fields[i] = -1;
        cr_expect_eq(moe_plan_check(plan, NULL), MOE_E_INVALID, "field %d", (int)i);
        *fields[i] = kept;
    }
    plan->token[1] = 10;
    cr_expect_eq(moe_plan_check(plan, NULL), MOE_E_INVALID);
    moe_plan_destroy(&plan);
    free(z);
}

/* Groups of nothing but NaN rank last too, the lower first, and as many are kept. */
Test(routing, nan_groups_rank_last) {
    double z[16];
    for (int i = 0; i < 16; i++)
        z[i] = i == 8 + 4 || i == 8 + 5 ? 1 : NAN;
    moe_layer_desc desc = layer(8, 4, MOE_SELECT_GROUP_TOPK);
    desc.router.score = MOE_SCORE_SIGMOID;
    desc.router.groups = 4;
    desc.router.topk_groups = 2;
    moe_plan *plan = route(&desc, 2, z, NULL, 0);
    for (int e = 0; e < 8; e++)
        cr_expect_eq(has_pair(plan, 0, e), e < 4, "expert %d", e);
    cr_expect(has_pair(plan, 1, 4) && has_pair(plan, 1, 5), "the group that is a number");
    cr_expect_eq(plan->token_offsets[2] - plan->token_offsets[1], 4);
    moe_plan_destroy(&plan);
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
Test(routing, rounding_pads_nothing_and_topk_half_a_tile) {
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
