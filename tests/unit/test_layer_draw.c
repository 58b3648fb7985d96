/* Drawn routing plans: each is what its route= promises, and the same on every machine. */
#include "drawn.h"
#include "moeref/case.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static int64_t tokens_of(const moe_plan *plan, int64_t expert) {
    return plan->offsets[expert + 1] - plan->offsets[expert];
}

/* Draws, checks what every given plan promises, and returns the problem. */
static moe_problem *draw_plan(const char *line) {
    capture seen;
    moe_log log = capture_log(&seen);
    moe_problem *p = drawn(line);
    const moe_plan *plan = p->plan;
    cr_assert(plan);
    cr_assert_eq(moe_plan_check(plan, &log), MOE_OK, "%s: %s", line, seen.text);
    cr_assert_eq(plan->n_tokens, p->T);
    cr_assert_eq(plan->n_experts, p->layer.E + p->layer.n_zero);
    for (int64_t t = 0; t < plan->n_tokens; t++) {
        double sum = 0;
        for (int64_t i = plan->token_offsets[t]; i < plan->token_offsets[t + 1]; i++) {
            double w = plan->weight[plan->pair_of_token[i]];
            cr_assert(w > 0 && w <= 1);
            sum += w;
        }
        if (plan->token_offsets[t + 1] > plan->token_offsets[t])
            cr_assert_float_eq(sum, 1, 1e-14);
    }
    return p;
}

/* K experts for every token; moe_plan_check has seen that they differ. */
static void assert_k_each(const moe_problem *p) {
    for (int64_t t = 0; t < p->T; t++)
        cr_assert_eq(p->plan->token_offsets[t + 1] - p->plan->token_offsets[t], p->layer.K);
}

Test(layer_draw, uniform_plans) {
    moe_problem *p = draw_plan("T=8000 d=1 n=1 E=16 K=3 route=uniform");
    assert_k_each(p);
    double expected = 8000 * 3 / 16.0, chi2 = 0;
    for (int64_t e = 0; e < 16; e++)
        chi2 += pow((double)tokens_of(p->plan, e) - expected, 2) / expected;
    cr_expect_lt(chi2, 50, "counts are not uniform: chi-square %g for 15 degrees", chi2);
    moe_problem_destroy(&p);
    p = draw_plan("T=3 d=1 n=1 E=16 K=16 route=uniform");
    assert_k_each(p);
    moe_problem_destroy(&p);
    p = draw_plan("T=1 d=1 n=1 E=1 K=1 route=uniform");
    cr_expect_eq(p->plan->weight[0], 1);
    moe_problem_destroy(&p);
    p = draw_plan("T=500 d=1 n=1 E=2 K=2 zero=2 route=uniform");
    cr_expect_gt(tokens_of(p->plan, 3), 0, "zero experts take part");
    moe_problem_destroy(&p);
}

static int64_t experts_of(const moe_plan *plan, int64_t t) {
    return plan->token_offsets[t + 1] - plan->token_offsets[t];
}

/* Masked tokens have no expert, all others keep theirs; dropped pairs are gone besides. */
Test(layer_draw, tokens_and_slots_without_experts) {
    moe_problem *all = draw_plan("T=400 d=1 n=1 E=16 K=3 route=zipf:1 seed=3");
    moe_problem *masked = draw_plan("T=400 d=1 n=1 E=16 K=3 route=zipf:1 masked=150 seed=3");
    moe_problem *dropped =
        draw_plan("T=400 d=1 n=1 E=16 K=3 route=zipf:1 masked=150 drop=60 seed=3");
    int64_t none = 0, first_half = 0, fewer = 0;
    cr_expect_null(masked->masked, "the plan says it");
    cr_expect_eq(dropped->plan->n_pairs, 750 - 60);
    for (int64_t t = 0; t < 400; t++) {
        int64_t n = experts_of(masked->plan, t);
        none += n == 0;
        first_half += n == 0 && t < 200;
        fewer += experts_of(dropped->plan, t) < n;
        cr_assert_leq(experts_of(dropped->plan, t), n);
        for (int64_t k = 0; n > 0 && k < 3; k++)
            cr_assert_eq(
                all->plan->token[all->plan->pair_of_token[all->plan->token_offsets[t] + k]],
                masked->plan
                    ->token[masked->plan->pair_of_token[masked->plan->token_offsets[t] + k]]);
    }
    cr_expect_eq(none, 150);
    cr_expect(first_half > 50 && first_half < 100, "%lld of 75", (long long)first_half);
    cr_expect(fewer > 40 && fewer <= 60);
    moe_problem_destroy(&all);
    moe_problem_destroy(&masked);
    moe_problem_destroy(&dropped);
    all = draw_plan("T=5 d=1 n=1 E=4 K=2 route=uniform masked=5 seed=1");
    cr_expect_eq(all->plan->n_pairs, 0);
    moe_problem_destroy(&all);
}

/* A layer that routes itself has a mask instead, the same as a given plan's. */
Test(layer_draw, masks) {
    moe_problem *routes = drawn("T=40 d=4 n=2 E=4 K=2 masked=9 seed=5");
    moe_problem *given = draw_plan("T=40 d=4 n=2 E=4 K=2 route=uniform masked=9 seed=5");
    cr_assert(routes->masked && !routes->plan);
    for (int64_t t = 0; t < 40; t++)
        cr_expect_eq(routes->masked[t], experts_of(given->plan, t) == 0);
    moe_problem_destroy(&routes);
    moe_problem_destroy(&given);
}

Test(layer_draw, balanced_plans) {
    moe_problem *p = draw_plan("T=101 d=1 n=1 E=7 K=3 route=balanced");
    assert_k_each(p);
    for (int64_t e = 0; e < 7; e++)
        cr_expect(tokens_of(p->plan, e) == 43 || tokens_of(p->plan, e) == 44);
    moe_problem_destroy(&p);
}

Test(layer_draw, hot_plans) {
    moe_problem *p = draw_plan("T=300 d=1 n=1 E=6 K=2 route=hot:4");
    assert_k_each(p);
    cr_expect_eq(tokens_of(p->plan, 4), 300);
    for (int64_t e = 0; e < 6; e++)
        cr_expect_gt(tokens_of(p->plan, e), 20);
    moe_problem_destroy(&p);
    p = draw_plan("T=9 d=1 n=1 E=6 K=1 route=hot:5");
    cr_expect_eq(tokens_of(p->plan, 5), 9);
    moe_problem_destroy(&p);
    p = draw_plan("T=9 d=1 n=1 E=6 K=6 route=hot:0");
    assert_k_each(p);
    moe_problem_destroy(&p);
}

Test(layer_draw, count_plans) {
    moe_problem *p = draw_plan("T=96 d=1 n=1 E=4 K=2 route=counts:32+0+96+1");
    const int64_t want[] = {32, 0, 96, 1};
    for (int64_t e = 0; e < 4; e++)
        cr_expect_eq(tokens_of(p->plan, e), want[e]);
    /* Not simply the first 32 tokens. */
    cr_expect_gt(p->plan->token[31], 40);
    moe_problem_destroy(&p);
    p = draw_plan("T=2 d=1 n=1 E=2 K=1 route=counts:0+0");
    cr_expect_eq(p->plan->n_pairs, 0);
    moe_problem_destroy(&p);
}

Test(layer_draw, zipf_plans) {
    moe_problem *p = draw_plan("T=20000 d=1 n=1 E=12 K=1 route=zipf:1.2");
    double norm = 0;
    for (int e = 0; e < 12; e++)
        norm += pow(e + 1, -1.2);
    for (int e = 0; e < 12; e++) {
        double share = pow(e + 1, -1.2) / norm, sigma = sqrt(20000 * share * (1 - share));
        cr_expect_float_eq((double)tokens_of(p->plan, e), 20000 * share, 5 * sigma);
    }
    moe_problem_destroy(&p);
    /* Without replacement: every expert once, though the last has probability 1e-21. */
    p = draw_plan("T=40 d=1 n=1 E=12 K=12 route=zipf:20");
    assert_k_each(p);
    moe_problem_destroy(&p);
    /* The steep tail is drawn in proportion, too: after expert 0 nearly always expert 1. */
    p = draw_plan("T=200 d=1 n=1 E=12 K=2 route=zipf:20");
    cr_expect_eq(tokens_of(p->plan, 0), 200);
    cr_expect_eq(tokens_of(p->plan, 1), 200);
    moe_problem_destroy(&p);
    p = draw_plan("T=4000 d=1 n=1 E=8 K=2 route=zipf:0");
    assert_k_each(p);
    for (int e = 0; e < 8; e++)
        cr_expect_float_eq((double)tokens_of(p->plan, e), 1000, 5 * sqrt(750));
    moe_problem_destroy(&p);
}

/* FNV-1a over tokens and weights in plan order. */
static uint64_t plan_hash(const moe_plan *plan) {
    uint64_t hash = 14695981039346656037u;
    for (int64_t p = 0; p < plan->n_pairs; p++) {
        uint64_t words[2] = {(uint64_t)plan->token[p], 0};
        memcpy(&words[1], &plan->weight[p], sizeof words[1]);
        for (int i = 0; i < 16; i++)
            hash = (hash ^ ((words[i / 8] >> (i % 8 * 8)) & 0xff)) * 1099511628211u;
    }
    return hash;
}

/* The same plan, to the last bit, on every machine and by every release. The hashes are those of
 * the first release, whose plans passed the tests above; a change that moves one changes every
 * case. */
Test(layer_draw, plans_are_pinned) {
    static const struct {
        const char *line;
        uint64_t hash;
    } pinned[] = {
        {"T=300 d=1 n=1 E=9 K=3 seed=1 route=uniform", 0xc680b3fc863f15af},
        {"T=300 d=1 n=1 E=9 K=3 seed=1 route=zipf:1.1", 0xcbceebca7071111a},
        {"T=300 d=1 n=1 E=9 K=3 seed=1 route=hot:2", 0xda5215e4db99cd5c},
        {"T=300 d=1 n=1 E=9 K=3 seed=1 route=balanced", 0x972b2cd5c5234eec},
        {"T=300 d=1 n=1 E=3 K=3 seed=1 route=counts:300+1+20", 0xdda93aef112430e5},
    };
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++) {
        moe_problem *p = draw_plan(pinned[i].line), *other;
        cr_expect_eq(plan_hash(p->plan), pinned[i].hash, "%s: 0x%016llx", pinned[i].line,
                     (unsigned long long)plan_hash(p->plan));
        char line[128];
        snprintf(line, sizeof line, "%s", pinned[i].line);
        strstr(line, "seed=1")[5] = '2';
        other = draw_plan(line);
        cr_expect_neq(plan_hash(p->plan), plan_hash(other->plan), "%s ignores the seed", line);
        moe_problem_destroy(&p);
        moe_problem_destroy(&other);
    }
}
