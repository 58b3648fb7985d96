/* Invariants of every way of choosing experts, and of plans. */
#include "route/route.h"
#include "routed.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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
