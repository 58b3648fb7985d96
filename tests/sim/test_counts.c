/* Tokens per expert of a case. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "moeref/model.h"

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
    static const char *const lines[] = {
        "T=1 d=8 n=8 E=4 K=4 route=uniform",      "T=100 d=8 n=8 E=7 K=3 route=uniform",
        "T=100 d=8 n=8 E=7 K=7 route=zipf:2",     "T=4096 d=8 n=8 E=64 K=8 route=zipf:1.2",
        "T=4096 d=8 n=8 E=64 K=8 route=balanced", "T=4096 d=8 n=8 E=64 K=8 route=router",
        "T=50 d=8 n=8 E=16 K=2 route=hot:3",      "T=50 d=8 n=8 E=1 K=1 route=hot:0",
        "T=3 d=8 n=8 E=512 K=2 route=uniform"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        moe_case c;
        int64_t *counts = draw(lines[i], &c);
        cr_expect_eq(sum(counts, c.layer.E), c.T * c.layer.K, "%s", lines[i]);
        for (int64_t e = 0; e < c.layer.E; e++)
            cr_expect(counts[e] >= 0 && counts[e] <= c.T, "%s: expert %d has %d", lines[i], (int)e,
                      (int)counts[e]);
        free(counts);
        moe_case_clear(&c);
    }
}

Test(sim_counts, hot_expert_gets_every_token) {
    moe_case c;
    int64_t *counts = draw("T=50 d=8 n=8 E=16 K=2 route=hot:3", &c);
    cr_expect_eq(counts[3], 50);
    free(counts);
    moe_case_clear(&c);
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
    moe_case_clear(&c);
}

Test(sim_counts, token_rounding_leaves_whole_tiles) {
    moe_case c;
    int64_t *counts =
        draw("T=8192 d=8 n=8 E=32 K=4 route=router select=token_rounding tile=128 rounding=nr", &c);
    for (int e = 0; e < 32; e++)
        cr_expect_eq(counts[e] % 128, 0);
    free(counts);
    moe_case_clear(&c);
}

Test(sim_counts, a_seed_decides) {
    moe_case a, b, other;
    int64_t *x = draw("T=1000 d=8 n=8 E=64 K=4 route=uniform seed=5", &a);
    int64_t *y = draw("T=1000 d=8 n=8 E=64 K=4 route=uniform seed=5", &b);
    int64_t *z = draw("T=1000 d=8 n=8 E=64 K=4 route=uniform seed=6", &other);
    cr_expect_eq(memcmp(x, y, 64 * sizeof *x), 0);
    cr_expect_neq(memcmp(x, z, 64 * sizeof *x), 0);
    free(x), free(y), free(z);
    moe_case_clear(&a), moe_case_clear(&b), moe_case_clear(&other);
}
