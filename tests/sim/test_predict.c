/* Laws that every prediction obeys, whatever the calibration. */
#include "capture.h"
#include "layers.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows an expert: many, fewer than one, and just over a tile. */
static void expect_floors(const moe_layer_desc d, int64_t T) {
    for (const char *const *g = moe_gpu_names(); *g; g++) {
        moe_gpu *gpu = load(*g);
        for (const char *const *m = moe_methods(); *m; m++) {
            if (!runs_on(gpu, *m))
                continue;
            moe_prediction *p = predict(gpu, *m, &d, T, has_backward(*m) ? 3 : 1);
            double sum = 0;
            for (size_t i = 0; i < p->n_kernels; i++) {
                const moe_cost *c = &p->kernels[i].cost;
                cr_expect(c->us >= c->floor_us, "%s %s %s: %g us, floor %g", *g, *m, c->name, c->us,
                          c->floor_us);
                cr_expect(c->bound_by[0] && isfinite(c->us) && c->hbm_bytes >= 0,
                          "%s %s %s: %g us, %g bytes, '%s'", *g, *m, c->name, c->us, c->hbm_bytes,
                          c->bound_by);
                sum += c->us;
            }
            cr_expect_float_eq(sum + p->overhead_us, p->pass[MOE_PASS_TOTAL].us,
                               1e-6 * p->pass[MOE_PASS_TOTAL].us);
            cr_expect_float_eq(p->pass[MOE_PASS_FORWARD].us + p->pass[MOE_PASS_BACKWARD].us,
                               p->pass[MOE_PASS_TOTAL].us, 1e-6 * p->pass[MOE_PASS_TOTAL].us);
            cr_expect(p->peak_bytes >= p->cached_bytes && p->padding >= 0 && p->padding < 1);
            moe_prediction_destroy(&p);
        }
        moe_gpu_destroy(&gpu);
    }
}

Test(sim_predict, no_kernel_beats_its_floor) {
    expect_floors(layer_of(2048, 1024, 64, 8), 8192);
    expect_floors(layer_of(1024, 512, 64, 2), 31);
    expect_floors(layer_of(1024, 512, 127, 2), 8160);
}

/* It says which architecture, and what else runs there. */
Test(sim_predict, a_method_of_another_architecture_is_refused) {
    const moe_layer_desc d = layer_of(1024, 512, 16, 2);
    const moe_workload w = {.layer = &d, .tokens = 512, .pass = MOE_PASS_FWD};
    int refused = 0;
    for (const char *const *g = moe_gpu_names(); *g; g++) {
        moe_gpu *gpu = load(*g);
        for (const char *const *m = moe_methods(); *m; m++) {
            capture seen;
            const moe_log log = capture_log(&seen);
            moe_prediction *p = NULL;
            const moe_status status = moe_predict(gpu, *m, &w, &log, &p);
            cr_expect_eq(status, runs_on(gpu, *m) ? MOE_OK : MOE_E_UNSUPPORTED, "%s on %s", *m, *g);
            if (status) {
                refused++;
                cr_expect(strstr(seen.text, *m) && strstr(seen.text, "architecture") &&
                              strstr(seen.text, "; there: cublas"),
                          "%s", seen.text);
            }
            moe_prediction_destroy(&p);
        }
        moe_gpu_destroy(&gpu);
    }
    cr_expect_gt(refused, 10);
}

Test(sim_predict, flops_are_the_layers) {
    const moe_layer_desc d = layer_of(1024, 512, 16, 2);
    moe_gpu *gpu = load("h100-sxm");
    const double forward = moe_layer_flops(&d, 4096, 8192, 0);
    const double backward = moe_layer_flops(&d, 4096, 8192, 1);
    for (const char *const *m = moe_methods(); *m; m++) {
        const int both = has_backward(*m), again = strcmp(*m, "momoe") == 0;
        moe_prediction *p = predict(gpu, *m, &d, 4096, both ? MOE_PASS_BOTH : MOE_PASS_FWD);
        double done = 0;
        for (size_t i = 0; i < p->n_kernels; i++)
            done += p->kernels[i].cost.flops;
        cr_expect_float_eq(p->pass[MOE_PASS_FORWARD].flops, forward, 1, "%s: %g", *m,
                           p->pass[MOE_PASS_FORWARD].flops);
        cr_expect_float_eq(p->pass[MOE_PASS_BACKWARD].flops, both ? backward : 0, 1, "%s: %g", *m,
                           p->pass[MOE_PASS_BACKWARD].flops);
        cr_expect_float_eq(p->pass[MOE_PASS_TOTAL].flops,
                           p->pass[MOE_PASS_FORWARD].flops + p->pass[MOE_PASS_BACKWARD].flops, 1,
                           "%s", *m);
        /* MoMoE computes H and Y twice: a forward pass more is done than counts. */
        cr_expect_float_eq(done, p->pass[MOE_PASS_TOTAL].flops + (again ? forward : 0), 1, "%s: %g",
                           *m, done);
        moe_prediction_destroy(&p);
    }
    moe_gpu_destroy(&gpu);
}

/* Better hardware is never slower. */
Test(sim_predict, monotone_in_the_hardware) {
    static const char *const better[] = {"hbm_bw*1.3",       "clock_mhz*1.1", "l2_bw*1.3",
                                         "inflight_kib*1.3", "kernel_us/2",   "epilogue_bw*1.3"};
    const moe_layer_desc shapes[] = {layer_of(4096, 256, 64, 8), layer_of(768, 2048, 8, 2)};
    for (size_t i = 0; i < sizeof better / sizeof *better; i++) {
        for (int s = 0; s < 4; s++) {
            moe_gpu *gpu = load("h100-sxm");
            const int64_t tokens = s < 2 ? 64 : 16384;
            moe_prediction *base = predict(gpu, "moeref", &shapes[s % 2], tokens, MOE_PASS_BOTH);
            cr_assert_eq(moe_gpu_what_if(gpu, better[i], NULL), MOE_OK);
            moe_prediction *now = predict(gpu, "moeref", &shapes[s % 2], tokens, MOE_PASS_BOTH);
            cr_expect(now->pass[MOE_PASS_TOTAL].us <= base->pass[MOE_PASS_TOTAL].us * (1 + 1e-9),
                      "%s: %g, then %g us", better[i], base->pass[MOE_PASS_TOTAL].us,
                      now->pass[MOE_PASS_TOTAL].us);
            moe_prediction_destroy(&base);
            moe_prediction_destroy(&now);
            moe_gpu_destroy(&gpu);
        }
    }
}

/* The highest clock that a description allows, and everything else at its best: still no kernel
 * beats its floor. */
Test(sim_predict, nothing_beats_a_floor_at_the_highest_clock) {
    static const char *const best[] = {"tensor_eff=1", "hbm_eff=1",        "kernel_us=0",
                                       "tile_us=0",    "epilogue_bw=4096", "throttle=0",
                                       "overlap_p=100"};
    for (const char *const *g = moe_gpu_names(); *g; g++) {
        moe_gpu *gpu = load(*g);
        double highest = 0;
        moe_prediction *p = NULL;
        for (size_t i = 0; i < sizeof best / sizeof *best; i++)
            cr_assert_eq(moe_gpu_what_if(gpu, best[i], NULL), MOE_OK, "%s", best[i]);
        cr_assert_eq(moe_gpu_get(gpu, "clock_max_mhz", &highest), MOE_OK);
        cr_expect_eq(moe_gpu_set(gpu, "clock_mhz", highest + 1, NULL), MOE_E_INVALID);
        cr_assert_eq(moe_gpu_set(gpu, "clock_mhz", highest, NULL), MOE_OK);
        cr_assert_eq(moe_predict_gemm(gpu, 8192, 8192, 8192, 1, NULL, NULL, &p), MOE_OK);
        cr_expect(p->pass[MOE_PASS_TOTAL].us >= p->pass[MOE_PASS_TOTAL].floor_us,
                  "%s: %g us, floor %g", *g, p->pass[MOE_PASS_TOTAL].us,
                  p->pass[MOE_PASS_TOTAL].floor_us);
        moe_prediction_destroy(&p);
        moe_gpu_destroy(&gpu);
    }
}

/* Settled clocks slow tensor-bound work and leave memory-bound work alone. */
Test(sim_predict, clock_states) {
    moe_gpu *gpu = load("h100-sxm");
    const moe_workload settled = {.clock = MOE_CLOCK_SETTLED};
    const moe_workload constant = {.entropy = MOE_ENTROPY_CONSTANT};
    moe_prediction *a, *b, *c;
    moe_predict_gemm(gpu, 4096, 4096, 4096, 1, NULL, NULL, &a);
    moe_predict_gemm(gpu, 4096, 4096, 4096, 1, &settled, NULL, &b);
    moe_predict_gemm(gpu, 4096, 4096, 4096, 1, &constant, NULL, &c);
    cr_expect(c->pass[MOE_PASS_TOTAL].us < a->pass[MOE_PASS_TOTAL].us &&
              a->pass[MOE_PASS_TOTAL].us < b->pass[MOE_PASS_TOTAL].us);
    cr_expect(b->clock_mhz < a->clock_mhz && a->clock_mhz < 1755);
    cr_expect_float_eq(c->clock_mhz, 1980, 1e-6, "the highest clock");
    moe_prediction_destroy(&a), moe_prediction_destroy(&b), moe_prediction_destroy(&c);
    moe_predict_gemm(gpu, 1, 16384, 16384, 1, NULL, NULL, &a);
    moe_predict_gemm(gpu, 1, 16384, 16384, 1, &settled, NULL, &b);
    cr_expect_float_eq(a->pass[MOE_PASS_TOTAL].us, b->pass[MOE_PASS_TOTAL].us,
                       0.01 * a->pass[MOE_PASS_TOTAL].us);
    cr_expect_float_eq(b->clock_mhz, 1755, 0.01 * 1755);
    moe_prediction_destroy(&a), moe_prediction_destroy(&b);
    moe_gpu_destroy(&gpu);
}

/* cutlass_moe is predicted as its table was measured, all others with random data. */
Test(sim_predict, default_data) {
    moe_gpu *gpu = load("h100-sxm");
    const moe_layer_desc d = layer_of(4096, 14336, 8, 2);
    for (int i = 0; i < 2; i++) {
        double us[3];
        for (int32_t entropy = MOE_ENTROPY_DEFAULT; entropy <= MOE_ENTROPY_CONSTANT; entropy++) {
            const moe_workload w = {
                .layer = &d, .tokens = 8192, .pass = MOE_PASS_FWD, .entropy = entropy};
            moe_prediction *p = NULL;
            cr_assert_eq(moe_predict(gpu, i ? "cutlass_moe" : "sonicmoe", &w, NULL, &p), MOE_OK);
            us[entropy] = p->pass[MOE_PASS_TOTAL].us;
            moe_prediction_destroy(&p);
        }
        cr_expect(us[MOE_ENTROPY_CONSTANT] < us[MOE_ENTROPY_RANDOM]);
        cr_expect_eq(us[MOE_ENTROPY_DEFAULT], us[i ? MOE_ENTROPY_CONSTANT : MOE_ENTROPY_RANDOM]);
    }
    moe_gpu_destroy(&gpu);
}

static moe_prediction *predict_plan(const moe_gpu *gpu, const char *method, const char *words) {
    int64_t counts[512];
    moe_prediction *p = NULL;
    moe_case c;
    cr_assert_eq(moe_case_parse(words, NULL, &c), MOE_OK);
    cr_assert(c.layer.E <= 512);
    cr_assert_eq(moe_counts_draw(&c, NULL, counts), MOE_OK);
    const moe_workload w = {
        .layer = &c.layer, .tokens = c.T, .counts = counts, .clock = MOE_CLOCK_SETTLED};
    cr_assert_eq(moe_predict(gpu, method, &w, NULL, &p), MOE_OK);
    moe_case_destroy(&c);
    return p;
}

/* SonicMoE's paper: 25.7 % more model FLOP/s forward and 11.8 % backward from token rounding, its
 * kernels alone. The room is what sim/REPRODUCTIONS.md leaves unexplained. */
Test(sim_predict, token_rounding_gains) {
    moe_gpu *gpu = load("h100-sxm");
    moe_prediction *chosen =
        predict_plan(gpu, "sonicmoe", "T=16384 d=4096 n=1024 K=4 E=256 route=uniform");
    moe_prediction *rounded =
        predict_plan(gpu, "sonicmoe", "T=16384 d=4096 n=1024 K=4 E=256 select=token_rounding");
    const double pairs = rounded->pass[MOE_PASS_TOTAL].flops / chosen->pass[MOE_PASS_TOTAL].flops;
    const double forward =
        pairs * chosen->pass[MOE_PASS_FORWARD].us / rounded->pass[MOE_PASS_FORWARD].us;
    const double backward =
        pairs * chosen->pass[MOE_PASS_BACKWARD].us / rounded->pass[MOE_PASS_BACKWARD].us;
    cr_expect_float_eq(forward, 1.257, 0.05, "%g", forward);
    cr_expect_float_eq(backward, 1.118, 0.02, "%g", backward);
    cr_expect(rounded->padding < 0.01 && chosen->padding > 0.25);
    moe_prediction_destroy(&chosen), moe_prediction_destroy(&rounded);
    moe_gpu_destroy(&gpu);
}

/* ScatterMoE's host time comes once, before the forward pass; its products, which L2 bounds, do not
 * feel a lower clock of the SMs. */
Test(sim_predict, scattermoe_waits) {
    moe_gpu *gpu = load("h100-sxm");
    const moe_layer_desc d = layer_of(1536, 256, 128, 8);
    moe_prediction *both = predict(gpu, "scattermoe", &d, 24576, MOE_PASS_BOTH);
    moe_prediction *backward = predict(gpu, "scattermoe", &d, 24576, MOE_PASS_BWD);
    moe_prediction *settled = NULL;
    const moe_workload w = {
        .layer = &d, .tokens = 24576, .pass = MOE_PASS_BOTH, .clock = MOE_CLOCK_SETTLED};
    cr_assert_eq(moe_predict(gpu, "scattermoe", &w, NULL, &settled), MOE_OK);
    cr_expect(both->overhead_us > 500 && backward->overhead_us == 0);
    cr_expect_float_eq(both->pass[MOE_PASS_BACKWARD].us, backward->pass[MOE_PASS_TOTAL].us,
                       0.01 * both->pass[MOE_PASS_BACKWARD].us);
    cr_assert_str_eq(both->kernels[1].cost.name, "H");
    cr_expect_str_eq(both->kernels[1].cost.bound_by, "l2");
    cr_expect_eq(both->kernels[1].cost.us, settled->kernels[1].cost.us);
    moe_prediction_destroy(&both), moe_prediction_destroy(&backward),
        moe_prediction_destroy(&settled);
    moe_gpu_destroy(&gpu);
}

/* One pair that found no place changes no kernel by more than its share: rows of K are K long. */
Test(sim_predict, a_dropped_pair_is_one_pair) {
    moe_gpu *gpu = load("h100-sxm");
    const moe_layer_desc d = layer_of(1536, 256, 64, 8);
    int64_t counts[64];
    for (int e = 0; e < 64; e++)
        counts[e] = 512 - (e == 63);
    for (const char *const *m = moe_methods(); *m; m++) {
        const int32_t pass = has_backward(*m) ? MOE_PASS_BOTH : MOE_PASS_FWD;
        const moe_workload w = {.layer = &d, .tokens = 4096, .counts = counts, .pass = pass};
        moe_prediction *full = predict(gpu, *m, &d, 4096, pass), *less = NULL;
        cr_assert_eq(moe_predict(gpu, *m, &w, NULL, &less), MOE_OK);
        for (size_t i = 0; i < full->n_kernels; i++)
            cr_expect_float_eq(less->kernels[i].cost.us, full->kernels[i].cost.us,
                               0.01 * full->kernels[i].cost.us, "%s %s: %g, then %g us", *m,
                               full->kernels[i].cost.name, full->kernels[i].cost.us,
                               less->kernels[i].cost.us);
        moe_prediction_destroy(&full), moe_prediction_destroy(&less);
    }
    moe_gpu_destroy(&gpu);
}
