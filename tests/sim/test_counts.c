/* Tokens per expert of a case. */
#include "capture.h"
#include "moeref/model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t *draw(const char *line, moe_case *c) {
    cr_assert_eq(moe_case_parse(line, NULL, c), MOE_OK, "%s", line);
    int64_t *counts = calloc((size_t)c->layer.E, sizeof *counts);
    cr_assert_eq(moe_counts_draw(c, NULL, counts), MOE_OK, "%s", line);
    return counts;
}

static int64_t sum(const int64_t *counts, int64_t n) {
    int64_t s = 0;
    for (int64_t i = 0; i < n; i++)
        s += counts[i];
    return s;
}

Test(sim_counts, every_pair_goes_somewhere_and_no_token_twice) {
    static const char *const lines[] = {"T=1 d=8 n=8 E=4 K=4 route=uniform",
                                        "T=100 d=8 n=8 E=7 K=3 route=uniform",
                                        "T=100 d=8 n=8 E=7 K=7 route=zipf:2",
                                        "T=4096 d=8 n=8 E=64 K=8 route=zipf:1.2",
                                        "T=4096 d=8 n=8 E=64 K=8 route=balanced",
                                        "T=4096 d=8 n=8 E=64 K=8 route=router",
                                        "T=50 d=8 n=8 E=16 K=2 route=hot:3",
                                        "T=50 d=8 n=8 E=1 K=1 route=hot:0",
                                        "T=3 d=8 n=8 E=512 K=2 route=uniform",
                                        "T=100 d=8 n=8 E=7 K=3 masked=40",
                                        "T=100 d=8 n=8 E=7 K=3 route=zipf:1 masked=99 drop=2",
                                        "T=100 d=8 n=8 E=7 K=3 route=hot:2 masked=100"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        moe_case c;
        int64_t *counts = draw(lines[i], &c);
        int64_t tokens = c.T - c.masked;
        cr_expect_eq(sum(counts, c.layer.E), tokens * c.layer.K - c.drop, "%s", lines[i]);
        for (int64_t e = 0; e < c.layer.E; e++)
            cr_expect(counts[e] >= 0 && counts[e] <= tokens, "%s: expert %d has %d", lines[i],
                      (int)e, (int)counts[e]);
        free(counts);
        moe_case_destroy(&c);
    }
}

Test(sim_counts, hot_expert_gets_every_token) {
    moe_case c;
    int64_t *counts = draw("T=50 d=8 n=8 E=16 K=2 route=hot:3", &c);
    cr_expect_eq(counts[3], 50);
    free(counts);
    moe_case_destroy(&c);
}

Test(sim_counts, uniform_spread_is_binomial) {
    moe_case c;
    int64_t *counts = draw("T=20000 d=8 n=8 E=500 K=5 route=uniform seed=3", &c);
    double variance = 0;
    for (int e = 0; e < 500; e++)
        variance += pow((double)counts[e] - 200, 2) / 500;
    /* 200 * (1 - 1/100) = 198; the estimate from 500 counts is good to 6 %. */
    cr_expect(variance > 198 * 0.75 && variance < 198 * 1.25, "variance %g", variance);
    free(counts);
    moe_case_destroy(&c);
}

static void expect_zipf(const char *line, const double *share, int64_t experts) {
    moe_case c;
    int64_t *counts = draw(line, &c);
    for (int64_t e = 0; e < experts; e++) {
        const double mean = share[e] * (double)c.T;
        cr_expect_float_eq((double)counts[e], mean, 3 * sqrt((double)c.T), "%s: %d has %d, not %g",
                           line, (int)e, (int)counts[e], mean);
    }
    free(counts);
    moe_case_destroy(&c);
}

/* Shares by hand: 1, 1/2, 1/3, 1/4 are 12, 6, 4 and 3 of 25. With two experts a token and 1, 1/4,
 * 1/9 the first would have 72/49 of the tokens: it has all, the others 9 and 4 of 13. A binomial
 * count strays from its mean by up to sqrt(T)/2, and all follow one that does. */
Test(sim_counts, zipf_shares) {
    static const double one[] = {12 / 25., 6 / 25., 4 / 25., 3 / 25.},
                        two[] = {1, 9 / 13., 4 / 13.};
    expect_zipf("T=250000 d=8 n=8 E=4 K=1 route=zipf:1", one, 4);
    expect_zipf("T=130000 d=8 n=8 E=3 K=2 route=zipf:2", two, 3);
}

/* Counts under one rule, drawn from the same popularity as those without rounding; with K = E every
 * expert has all tokens. */
static void expect_rule(const char *rule, int (*fits)(int64_t rounded, int64_t drawn)) {
    for (int K = 4; K <= 32; K += 14) {
        char line[200];
        moe_case c, plain;
        snprintf(line, sizeof line, "T=8100 d=8 n=8 E=32 K=%d select=token_rounding rounding=%s", K,
                 rule);
        int64_t *counts = draw(line, &c);
        snprintf(line, sizeof line, "T=8100 d=8 n=8 E=32 K=%d route=uniform", K);
        int64_t *drawn = draw(line, &plain);
        for (int e = 0; e < 32; e++)
            cr_expect(fits(counts[e], drawn[e]), "%s, K=%d: %d became %d", rule, K, (int)drawn[e],
                      (int)counts[e]);
        free(counts), free(drawn);
        moe_case_destroy(&c), moe_case_destroy(&plain);
    }
}

static int up(int64_t r, int64_t f) {
    return r >= f && r < f + 128 && (r % 128 == 0 || r == 8100);
}

static int down(int64_t r, int64_t f) {
    return r <= f && r > f - 128 && r % 128 == 0;
}

static int nearest(int64_t r, int64_t f) {
    return llabs(r - f) <= 64 && r % 128 == 0;
}

static int either(int64_t r, int64_t f) {
    return up(r, f) || down(r, f);
}

/* The rules are the routing's own: up, where fewer tokens than a tile are left, takes them all;
 * stochastic goes against the nearest now and then; balance keeps the sum within half a tile. */
Test(sim_counts, token_rounding_rules) {
    moe_case c;
    int against = 0;
    expect_rule("up", up);
    expect_rule("down", down);
    expect_rule("nr", nearest);
    expect_rule("sr", either);
    int64_t *sr = draw("T=8100 d=8 n=8 E=32 K=4 select=token_rounding rounding=sr seed=3", &c);
    int64_t *nr = draw("T=8100 d=8 n=8 E=32 K=4 select=token_rounding rounding=nr seed=3", &c);
    int64_t *balanced =
        draw("T=8100 d=8 n=8 E=32 K=4 select=token_rounding rounding=balance seed=3", &c);
    for (int e = 0; e < 32; e++)
        against += sr[e] != nr[e];
    cr_expect(against > 0);
    cr_expect(llabs(sum(balanced, 32) - 8100 * 4) <= 64, "%d", (int)sum(balanced, 32));
    free(sr), free(nr), free(balanced);
    moe_case_destroy(&c);
}

/* Pairs of the real experts when a plan is drawn pair by pair, as benchmarks do. */
static int64_t planned(const moe_case *c) {
    moe_problem *p = NULL;
    cr_assert_eq(moe_problem_from_case(c, NULL, &p), MOE_OK);
    const int64_t pairs = p->plan->offsets[c->layer.E];
    moe_problem_destroy(&p);
    return pairs;
}

/* Zero experts stand behind the E real ones and are drawn like them: what is left for these is what
 * a plan leaves them, but for chance. */
Test(sim_counts, zero_experts_take_their_share) {
    static const struct {
        const char *line;
        double room; /* standard deviations of a draw that both counts may have */
    } all[] = {{"T=96 d=8 n=8 E=8 K=6 zero=4 route=balanced", 0},
               {"T=96 d=8 n=8 E=8 K=9 zero=4 route=balanced", 0},
               {"T=96 d=8 n=8 E=2 K=3 zero=3 route=hot:0", 4},
               {"T=96 d=8 n=8 E=2 K=3 zero=3 route=hot:3", 4},
               {"T=96 d=8 n=8 E=2 K=5 zero=3 route=hot:4", 0},
               {"T=960 d=8 n=8 E=8 K=6 zero=4 route=uniform", 4},
               {"T=960 d=8 n=8 E=8 K=3 zero=8 route=zipf:1", 4},
               {"T=16 d=8 n=8 E=2 K=2 zero=2 route=counts:8+4+16+4", 0}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        moe_case c;
        int64_t *counts = draw(all[i].line, &c);
        const double pairs = (double)planned(&c), room = all[i].room * sqrt(2 * pairs);
        cr_expect(fabs((double)sum(counts, c.layer.E) - pairs) <= room, "%s: %d, planned %g",
                  all[i].line, (int)sum(counts, c.layer.E), pairs);
        for (int64_t e = 0; e < c.layer.E; e++)
            cr_assert(counts[e] >= 0 && counts[e] <= c.T, "%s", all[i].line);
        free(counts);
        moe_case_destroy(&c);
    }
}

/* Where a router chooses, E of E + zero of the pairs are left, also where a product of all three
 * sizes would not fit 64 bits. */
Test(sim_counts, zero_experts_of_a_router) {
    static const struct {
        const char *line;
        int64_t pairs;
    } all[] = {{"T=96 d=8 n=8 E=8 K=6 zero=4", 96 * 6 * 8 / 12},
               {"T=96 d=8 n=8 E=8 K=9 zero=4", 96 * 9 * 8 / 12},
               {"T=96 d=8 n=8 E=8 K=6 zero=4 select=expert_choice", 48 * 8},
               {"T=2147483647 d=1 n=1 E=1048576 K=8192", INT64_C(2147483647) * 8192},
               {"T=2147483647 d=1 n=1 E=524288 zero=524288 K=8192", INT64_C(2147483647) * 4096}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        moe_case c;
        int64_t *counts = draw(all[i].line, &c);
        const double pairs = (double)sum(counts, c.layer.E), rest = (double)c.layer.n_zero;
        cr_expect(fabs(pairs - (double)all[i].pairs) <= rest, "%s: %g", all[i].line, pairs);
        free(counts);
        moe_case_destroy(&c);
    }
}

Test(sim_counts, a_seed_decides) {
    moe_case a, b, other;
    int64_t *x = draw("T=1000 d=8 n=8 E=64 K=4 route=uniform seed=5", &a);
    int64_t *y = draw("T=1000 d=8 n=8 E=64 K=4 route=uniform seed=5", &b);
    int64_t *z = draw("T=1000 d=8 n=8 E=64 K=4 route=uniform seed=6", &other);
    cr_expect_eq(memcmp(x, y, 64 * sizeof *x), 0);
    cr_expect_neq(memcmp(x, z, 64 * sizeof *x), 0);
    free(x), free(y), free(z);
    moe_case_destroy(&a), moe_case_destroy(&b), moe_case_destroy(&other);
}
