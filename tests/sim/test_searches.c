/* What methods search for, held to trying all there is: placements, caches, lists. */
#include "moeref/rng.h"
#include "sim/methods/cache.h"
#include "sim/methods/hybrimoe.h"
#include "sim/methods/place.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t best_of_two(const int64_t counts[8]) {
    int64_t best = INT64_MAX;
    for (int set = 0; set < 256; set++) {
        int32_t owner[8];
        int size = 0;
        for (int e = 0; e < 8; e++) {
            owner[e] = set >> e & 1;
            size += owner[e];
        }
        const int64_t most = moe_int_place_most(counts, owner, 8, 2);
        if (size == 4 && most < best)
            best = most;
    }
    return best;
}

Test(sim_searches, placement_is_near_what_trying_all_finds) {
    double ratios = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        int64_t counts[8];
        int32_t owner[8], contiguous[8];
        int ones = 0;
        for (uint64_t e = 0; e < 8; e++) {
            counts[e] = (int64_t)(moe_rng_bits(seed, e, 0) % 1000);
            contiguous[e] = e >= 4;
        }
        moe_int_place(counts, 8, 2, owner);
        for (int e = 0; e < 8; e++)
            ones += owner[e];
        cr_expect_eq(ones, 4);
        const int64_t most = moe_int_place_most(counts, owner, 8, 2);
        cr_expect_leq(most, moe_int_place_most(counts, contiguous, 8, 2));
        const double ratio = (double)most / (double)best_of_two(counts);
        cr_expect_leq(ratio, 1.1, "seed %d", (int)seed);
        ratios += ratio / 200;
    }
    cr_expect_leq(ratios, 1.01);
}

#define STEPS 200

Test(sim_searches, no_cache_misses_less_than_belady) {
    int32_t use[STEPS * 2];
    double scores[STEPS * 16];
    int64_t misses[MOE_INT_CACHE_COUNT];
    for (int step = 0; step < STEPS; step++) {
        for (int e = 0; e < 16; e++) { /* what was likely before is likely again */
            const double before = step ? scores[(step - 1) * 16 + e] : 0.5;
            scores[step * 16 + e] =
                0.7 * before + 0.3 * moe_rng_uniform(7, 1, (uint64_t)(step * 16 + e));
        }
        use[2 * step] = 0;
        for (int e = 1; e < 16; e++)
            if (scores[step * 16 + e] > scores[step * 16 + use[2 * step]])
                use[2 * step] = e;
        use[2 * step + 1] = use[2 * step] == 0;
        for (int e = 0; e < 16; e++)
            if (e != use[2 * step] && scores[step * 16 + e] > scores[step * 16 + use[2 * step + 1]])
                use[2 * step + 1] = e;
    }
    for (int c = 0; c < MOE_INT_CACHE_COUNT; c++)
        misses[c] = moe_int_cache_misses((moe_int_cache)c, use, scores, STEPS, 2, 16, 6);
    cr_expect_leq(misses[MOE_INT_CACHE_BELADY], misses[MOE_INT_CACHE_MRS]);
    cr_expect_lt(misses[MOE_INT_CACHE_MRS], misses[MOE_INT_CACHE_LRU], "%d %d",
                 (int)misses[MOE_INT_CACHE_MRS], (int)misses[MOE_INT_CACHE_LRU]);
    cr_expect_leq(moe_int_cache_misses(MOE_INT_CACHE_LRU, use, scores, STEPS, 2, 16, 16), 16);
    cr_expect_eq(moe_int_cache_misses(MOE_INT_CACHE_LRU, use, scores, STEPS, 2, 16, 1), -1);
}

static double end_of(const moe_int_hybrid *h, int count) {
    double gpu = 0, copy = 0, cpu = 0;
    for (int head = 0, tail = count - 1; head <= tail;) {
        double g, c, p;
        const int next = moe_int_hybrid_next(h, head, tail, gpu, copy, cpu, &g, &c, &p);
        if (next == tail && p < g) {
            cpu = p;
            tail--;
        } else {
            gpu = g;
            copy = c;
            head++;
        }
    }
    return fmax(gpu, cpu);
}

static double best_end(const moe_int_hybrid *h, int count) {
    double best = HUGE_VAL;
    for (int set = 0; set < 1 << count; set++) {
        double gpu = 0, copy = 0, cpu = 0;
        for (int i = 0; i < count; i++) {
            if (set >> i & 1) {
                cpu += h[i].cpu_us;
            } else {
                copy += h[i].copy_us;
                gpu = fmax(gpu, h[i].copy_us > 0 ? copy : 0) + h[i].gpu_us;
            }
        }
        best = fmin(best, fmax(gpu, cpu));
    }
    return best;
}

/* Small experts cost the CPU least against the GPU; copies all cost the same. */
Test(sim_searches, hybrid_lists_are_within_a_third_of_the_best) {
    for (uint64_t seed = 0; seed < 100; seed++) {
        moe_int_hybrid h[8];
        for (uint64_t e = 0; e < 8; e++) {
            const double rows = 1 + 100 * moe_rng_uniform(seed, 2, e);
            h[e] = (moe_int_hybrid){.expert = (int64_t)e,
                                    .rows = rows,
                                    .gpu_us = 30 + rows / 10,
                                    .cpu_us = 40 + 6 * rows,
                                    .copy_us = e % 2 ? 300 : 0};
        }
        moe_int_hybrid_sort(h, 8);
        cr_expect_leq(end_of(h, 8), best_end(h, 8) * 4 / 3, "seed %d: %g, best %g", (int)seed,
                      end_of(h, 8), best_end(h, 8));
    }
}
