/* The fast scheduler against the plain definition: each tile to the SM that is free first. */
#include "moeref/rng.h"
#include "sim/kernels/rates.h"
#include "sim/kernels/schedule.h"

#include <criterion/criterion.h>
#include <math.h>

static void plain(const moe_int_batch *b, int batches, int sms, double *ret_full, double *ret_end) {
    double at[MOE_INT_SMS_MAX] = {0};
    for (int i = 0; i < batches; i++) {
        for (double left = b[i].count; left > 0; left--) {
            int least = 0;
            for (int s = 1; s < sms; s++)
                least = at[s] < at[least] ? s : least;
            at[least] += b[i].cost;
        }
    }
    *ret_full = *ret_end = at[0];
    for (int s = 1; s < sms; s++) {
        *ret_full = fmin(*ret_full, at[s]);
        *ret_end = fmax(*ret_end, at[s]);
    }
}

Test(sim_schedule, equals_the_plain_definition) {
    for (uint64_t seed = 0; seed < 300; seed++) {
        moe_int_batch b[6];
        moe_int_schedule got;
        double full, end, busy = 0;
        const int batches = 1 + (int)(moe_rng_uniform(seed, 0, 0) * 6);
        const int sms = 1 + (int)(moe_rng_uniform(seed, 1, 0) * 40);
        for (int i = 0; i < batches; i++) {
            b[i].cost = 1 + floor(moe_rng_uniform(seed, 2, (uint64_t)i) * 1000);
            b[i].count = floor(moe_rng_uniform(seed, 3, (uint64_t)i) * 200);
            busy += b[i].cost * b[i].count;
        }
        moe_int_schedule_tiles(b, batches, sms, &got);
        plain(b, batches, sms, &full, &end);
        cr_expect_float_eq(got.end, end, 1e-6, "seed %d: ends at %g, not %g", (int)seed, got.end,
                           end);
        cr_expect_float_eq(got.full, full, 1e-6, "seed %d: full until %g, not %g", (int)seed,
                           got.full, full);
        cr_expect_float_eq(got.busy, busy, 1e-6);
        cr_expect(got.active >= 1 && got.active <= sms);
    }
}

Test(sim_schedule, cost_does_not_grow_with_the_number_of_tiles) {
    const moe_int_batch b[] = {{3, 1e12}, {2, 1e12}};
    moe_int_schedule got;
    moe_int_schedule_tiles(b, 2, 100, &got);
    cr_expect_float_eq(got.end, 5e10, 1);
}

/* Whatever exponent a description has: 1 adds the two, a large one takes the larger. */
Test(sim_schedule, join_is_the_norm) {
    static const double exponents[] = {1, 1.5, 2, 3.9, 4, 4.7, 20, 100};
    static const double small[] = {0, 1e-9, 0.01, 0.05, 0.0999, 0.1, 0.5, 1};
    for (size_t i = 0; i < sizeof exponents / sizeof *exponents; i++) {
        for (size_t j = 0; j < sizeof small / sizeof *small; j++) {
            const double p = exponents[i], want = pow(1 + pow(small[j], p), 1 / p);
            cr_expect_float_eq(moe_int_join(1, small[j], p), want, 1e-12, "p=%g, %g", p, small[j]);
            cr_expect_float_eq(moe_int_join(7 * small[j], 7, p), 7 * want, 1e-11, "p=%g, %g", p,
                               small[j]);
        }
    }
    cr_expect_eq(moe_int_join(0, 0, 4), 0);
}
