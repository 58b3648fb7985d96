/* How rows become tiles: rounds of all SMs, and clusters where a GPU has them. */
#include "layers.h"
#include "sim/kernels/tiles.h"

#include <criterion/criterion.h>
#include <string.h>

/* 33 row tiles times 8 columns are two rounds of 132 SMs; one more token costs a third round. */
Test(sim_tiles, waves_are_quantised) {
    moe_gpu *gpu = load("h100-sxm");
    const moe_layer_desc one = layer_of(4096, 512, 1, 1);
    moe_prediction *full = predict(gpu, "scattermoe", &one, 33 * 128, MOE_PASS_FWD);
    moe_prediction *over = predict(gpu, "scattermoe", &one, 33 * 128 + 1, MOE_PASS_FWD);
    const moe_cost *before = &full->kernels[1].cost, *after = &over->kernels[1].cost;
    cr_assert_str_eq(before->name, "H");
    cr_expect_eq(before->tiles, 264);
    cr_expect_eq(after->tiles, 272);
    cr_expect(after->us > 1.3 * before->us, "%g, then %g us", before->us, after->us);
    moe_prediction_destroy(&full), moe_prediction_destroy(&over);
    moe_gpu_destroy(&gpu);
}

static double tiles_of(const moe_gpu *gpu, const char *method, const char *kernel,
                       const moe_workload *w, double *ret_padding) {
    moe_prediction *p = NULL;
    double tiles = -1;
    cr_assert_eq(moe_predict(gpu, method, w, NULL, &p), MOE_OK);
    for (size_t i = 0; i < p->n_kernels; i++) {
        if (strcmp(p->kernels[i].cost.name, kernel) == 0)
            tiles = p->kernels[i].cost.tiles;
    }
    *ret_padding = p->padding;
    moe_prediction_destroy(&p);
    return tiles;
}

/* Clusters take two row tiles of an expert: 256 rows are two tiles, 257 are four. On a GPU without
 * clusters they are three, and one of its expert's rows more or less pads one tile alone: a
 * what-if, for kernels with clusters run nowhere else. */
Test(sim_tiles, clusters_pad_rows) {
    static const struct {
        const char *method, *kernel, *gpu, *edit;
        double over; /* row tiles of 255 and 257 rows */
    } rows[] = {
        {"sonicmoe", "A", "h100-sxm", "sms=132", 6},
        {"sonicmoe", "A", "h100-pcie", "sms=114", 6},
        {"sonicmoe", "A", "h200-sxm", "sms=132", 6},
        {"sonicmoe", "A", "h100-sxm", "cluster=1", 5},
        {"grouped_mm", "H", "h100-sxm", "sms=132", 6},
        {"grouped_mm", "H", "h100-pcie", "sms=114", 6},
        {"grouped_mm", "H", "h200-sxm", "sms=132", 6},
        {"grouped_mm", "H", "b200-sxm", "sms=148", 6},
        {"grouped_mm", "H", "h100-sxm", "cluster=1", 5},
    };
    const moe_layer_desc d = layer_of(4096, 1024, 2, 1);
    const int64_t even[2] = {256, 256}, odd[2] = {255, 257};
    moe_workload w = {.layer = &d, .tokens = 512, .pass = MOE_PASS_FWD};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *method = rows[i].method, *kernel = rows[i].kernel, *name = rows[i].gpu;
        moe_gpu *gpu = load(name);
        cr_assert_eq(moe_gpu_what_if(gpu, rows[i].edit, NULL), MOE_OK);
        double full, over;
        w.counts = even;
        cr_expect_eq(tiles_of(gpu, method, kernel, &w, &full), 4 * 8, "%s, %s", method, name);
        w.counts = odd;
        cr_expect_eq(tiles_of(gpu, method, kernel, &w, &over), rows[i].over * 8, "%s, %s", method,
                     name);
        cr_expect_float_eq(full, 0, 1e-6);
        cr_expect_float_eq(over, 1 - 4 / rows[i].over, 1e-6, "%s, %s: %g", method, name, over);
        moe_gpu_destroy(&gpu);
    }
}

/* ATen loops over experts on an A100: a product each, and the host's time where they are short. */
Test(sim_tiles, a_loop_over_experts) {
    const moe_layer_desc d = layer_of(4096, 1024, 64, 1);
    int64_t counts[64] = {0};
    moe_workload w = {.layer = &d, .tokens = 96, .counts = counts, .pass = MOE_PASS_FWD};
    moe_gpu *gpu = load("a100-sxm");
    double us[2];
    for (int i = 0; i < 2; i++) {
        moe_prediction *p = NULL;
        counts[3] = 32, counts[40] = 64;
        if (i)
            for (int e = 0; e < 64; e++)
                counts[e] = e < 32 ? 2 : 1;
        cr_assert_eq(moe_predict(gpu, "grouped_mm", &w, NULL, &p), MOE_OK);
        cr_assert_str_eq(p->kernels[1].cost.name, "H");
        us[i] = p->kernels[1].cost.us;
        cr_expect_float_eq(p->kernels[1].cost.flops, 2. * 96 * 2048 * 4096, 1);
        moe_prediction_destroy(&p);
    }
    moe_prediction *one = NULL, *two = NULL;
    cr_assert_eq(moe_predict_gemm(gpu, 32, 2048, 4096, 1, NULL, NULL, &one), MOE_OK);
    cr_assert_eq(moe_predict_gemm(gpu, 64, 2048, 4096, 1, NULL, NULL, &two), MOE_OK);
    const double sum = one->kernels[0].cost.us + two->kernels[0].cost.us;
    cr_expect_float_eq(us[0], sum, 0.01 * sum, "%g, two products %g", us[0], sum);
    cr_expect(us[1] > 10 * us[0], "%g, then %g us", us[0], us[1]);
    moe_prediction_destroy(&one), moe_prediction_destroy(&two);
    moe_gpu_destroy(&gpu);
}

/* Kernels of Triton without clusters gain nothing from a GPU that has them. */
Test(sim_tiles, no_clusters_no_multicast) {
    static const char *const methods[] = {"scattermoe", "megablocks", "momoe", "triton_fused_moe",
                                          "sglang_fused_moe"};
    const moe_layer_desc d = layer_of(2048, 1024, 8, 2);
    moe_gpu *with = load("h100-sxm"), *without = load("h100-sxm");
    cr_assert_eq(moe_gpu_what_if(without, "cluster=1", NULL), MOE_OK);
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
        const int32_t pass = has_backward(methods[m]) ? MOE_PASS_BOTH : MOE_PASS_FWD;
        moe_prediction *a = predict(with, methods[m], &d, 4096, pass);
        moe_prediction *b = predict(without, methods[m], &d, 4096, pass);
        for (size_t i = 0; i < a->n_kernels; i++) {
            const moe_cost *cost = &a->kernels[i].cost;
            cr_expect_eq(cost->l2_bytes, b->kernels[i].cost.l2_bytes, "%s %s", methods[m],
                         cost->name);
        }
        moe_prediction_destroy(&a), moe_prediction_destroy(&b);
    }
    moe_prediction *a = predict(with, "cutlass_moe", &d, 4096, MOE_PASS_FWD);
    moe_prediction *b = predict(without, "cutlass_moe", &d, 4096, MOE_PASS_FWD);
    cr_expect_lt(a->kernels[3].cost.l2_bytes, b->kernels[3].cost.l2_bytes);
    moe_prediction_destroy(&a), moe_prediction_destroy(&b);
    moe_gpu_destroy(&with), moe_gpu_destroy(&without);
}

/* SGLang has tuned tiles for 128 experts of width 768, and for neither alone. */
Test(sim_tiles, fallback_of_untuned_shapes) {
    static const struct {
        int64_t E, n, T;
        int tile_m, tile_n; /* 0: as tuned */
    } cases[] = {{128, 768, 8192, 0, 0},  {128, 768, 128, 0, 0}, {128, 512, 8192, 64, 64},
                 {64, 768, 8192, 64, 64}, {64, 768, 65, 64, 64}, {64, 768, 64, 16, 32}};
    moe_gpu *gpu = load("h100-sxm");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const moe_layer_desc d = layer_of(2048, cases[i].n, cases[i].E, 8);
        moe_prediction *got = predict(gpu, "sglang_fused_moe", &d, cases[i].T, MOE_PASS_FWD);
        moe_prediction *tuned = predict(gpu, "triton_fused_moe", &d, cases[i].T, MOE_PASS_FWD);
        const moe_kernel *k = &got->kernels[2], *as = &tuned->kernels[2];
        cr_assert_str_eq(k->cost.name, "H");
        cr_expect_eq(k->tile_m, cases[i].tile_m ? cases[i].tile_m : as->tile_m, "%zu", i);
        cr_expect_eq(k->tile_n, cases[i].tile_n ? cases[i].tile_n : as->tile_n, "%zu", i);
        if (!cases[i].tile_m)
            cr_expect_eq(k->cost.us, as->cost.us, "%zu", i);
        moe_prediction_destroy(&got), moe_prediction_destroy(&tuned);
    }
    moe_gpu_destroy(&gpu);
}

/* A weight gradient whose K is split in two, by hand: depths of 1000 and 64 rows are 8 and 1 steps
 * of 64 for each half, and 256 x 128 is two tiles of 128 x 128 twice. */
Test(sim_tiles, split_depths) {
    static const int64_t counts[] = {1000, 64};
    const moe_layer_desc d = layer_of(256, 128, 2, 1);
    const moe_workload w = {.layer = &d, .tokens = 1064, .counts = counts};
    const moe_int_gemm g = {
        .counts = counts, .groups = 2, .depth = true, .m = 256, .n = 128, .element = 2, .load = 1};
    moe_gpu *gpu = load("h100-sxm");
    moe_int_rates rates;
    moe_kernel k;
    moe_int_times times;
    moe_int_rates_of(gpu, MOE_INT_SYS_TRITON, &w, &rates);
    moe_int_gemm_tile(&rates, &g, (moe_int_tile){128, 128, 2}, &k, &times);
    cr_expect_eq(k.cost.tiles, 2 * 2 * 2);
    cr_expect_eq(k.cost.flops, 2. * 256 * 128 * 1064);
    cr_expect_eq(k.padded_flops, (8 + 1) * 4 * 2. * 128 * 128 * 64);
    moe_gpu_destroy(&gpu);
}

/* Experts of 320, 128 and 256 rows have 3, 1 and 2 tiles of 128, and 2, 1 and 1 clusters of two. */
Test(sim_tiles, clusters_of_groups) {
    static const int64_t counts[] = {320, 128, 256};
    const moe_int_gemm g = {.counts = counts, .groups = 3, .n = 512, .k = 64, .element = 2};
    moe_int_rows rows;
    moe_int_sums s;
    moe_int_tiles_rows(&g, 128, 2, &rows);
    cr_expect_eq(rows.tiles, 3 + 1 + 2);
    cr_expect_eq(rows.padded, 4 + 2 + 2);
    cr_expect_eq(rows.full, 2 + 1 + 2);
    cr_expect_eq(rows.filled, 320 + 128 + 256);
    moe_int_tiles_sum(&g, (moe_int_tile){128, 256, 1}, &rows, &s);
    cr_expect_eq(s.tiles, 6 * 2);
    cr_expect_eq(s.padded, 8. / 6);
}

/* Tiles of 128 x 256 that L2 bounds load 128 + 256/2 rows and columns a k-step in a cluster of two
 * along the rows, and 128/2 + 256 along the columns: 1.25 times as much, which is the faster where
 * 4 CTAs take 3 row tiles. */
Test(sim_tiles, clusters_that_idle_lie_along_columns) {
    moe_gpu *gpu = load("h100-sxm");
    const moe_workload state = {0};
    const moe_int_gemm g = {.groups = 1, .m = 384, .n = 512, .k = 4096, .element = 2, .load = 1};
    const moe_int_tile t = {128, 256, 1};
    moe_int_rates r;
    moe_int_step even, odd, slightly;
    moe_int_rates_of(gpu, MOE_INT_SYS_CUBLAS, &state, &r);
    r.l2 = 16; /* B a clock and SM */
    moe_int_gemm_step(&r, &g, t, (moe_int_fill){.rows = 128, .padded = 1}, &even);
    moe_int_gemm_step(&r, &g, t, (moe_int_fill){.rows = 128, .padded = 4. / 3}, &odd);
    moe_int_gemm_step(&r, &g, t, (moe_int_fill){.rows = 128, .padded = 1.2}, &slightly);
    cr_expect_eq(even.l2_step_bytes, (128 + 128) * 64 * 2);
    cr_expect_eq(odd.l2_step_bytes, (64 + 256) * 64 * 2);
    cr_expect_eq(slightly.l2_step_bytes, even.l2_step_bytes);
    cr_expect_float_eq(even.step, even.l2_step_bytes / 16 + r.sync, 1e-9);
    cr_expect_float_eq(odd.step, odd.l2_step_bytes / 16 + r.sync, 1e-9);
    cr_expect_float_eq(slightly.step, 1.2 * even.l2_step_bytes / 16 + r.sync, 1e-9);
    moe_gpu_destroy(&gpu);
}

/* wgmma multiplies 64 rows, of which a tile of 16 has 48 to spare; mma.sync 16, at 0.629 of its
 * rate. In warps of half a tile's side, which the operand's bytes show. */
Test(sim_tiles, narrow_tiles_take_the_narrow_instruction) {
    moe_gpu *gpu = load("h100-sxm");
    const moe_workload state = {0};
    moe_int_rates r;
    moe_int_step wide, narrow, large;
    moe_int_rates_of(gpu, MOE_INT_SYS_TRITON, &state, &r);
    moe_int_gemm g = {.groups = 1, .m = 16, .n = 128, .k = 4096, .element = 2, .load = 1};
    moe_int_gemm_step(&r, &g, (moe_int_tile){16, 128, 1}, (moe_int_fill){.rows = 16}, &wide);
    g.narrow = true;
    moe_int_gemm_step(&r, &g, (moe_int_tile){16, 128, 1}, (moe_int_fill){.rows = 16}, &narrow);
    moe_int_gemm_step(&r, &g, (moe_int_tile){64, 128, 1}, (moe_int_fill){.rows = 64}, &large);
    cr_expect_float_eq(wide.tensor, large.tensor, 1e-9);
    cr_expect_float_eq(narrow.tensor, 16. / 64 * wide.tensor * r.tensor / (0.629 * r.tensor_peak),
                       1e-9);
    cr_expect_float_eq(narrow.smem_step_bytes, 2 * (16 + 64) * 64 * 2, 1e-9);
    moe_gpu_destroy(&gpu);
}

static double kernel_us(const moe_gpu *gpu, const moe_layer_desc *d, const char *name,
                        char bound_by[static 16]) {
    moe_prediction *p = predict(gpu, "cutlass_moe", d, 16384, MOE_PASS_FWD);
    double us = -1;
    for (size_t i = 0; i < p->n_kernels; i++) {
        if (strcmp(p->kernels[i].cost.name, name) == 0) {
            us = p->kernels[i].cost.us;
            strcpy(bound_by, p->kernels[i].cost.bound_by);
        }
    }
    moe_prediction_destroy(&p);
    return us;
}

/* By hand: 16384 tokens' 8 rows of 4096 at 2 elements a clock on each of 148 SMs at 1965 MHz, the
 * clock of the constant data that this method was timed with, are 923 us. */
Test(sim_tiles, rows_of_tokens_added_up) {
    const moe_layer_desc d = layer_of(4096, 64, 128, 8);
    const double by_hand = 16384. * 8 * 4096 / (2 * 148 * 1965.);
    char bound[2][16] = {"", ""};
    moe_gpu *gpu = load("b200-sxm");
    cr_assert_eq(moe_gpu_what_if(gpu, "cutlass_moe.gap_us=0", NULL), MOE_OK);
    cr_assert_eq(moe_gpu_what_if(gpu, "kernel_us=0", NULL), MOE_OK);
    cr_assert_eq(moe_gpu_what_if(gpu, "cutlass_moe.sum=2", NULL), MOE_OK);
    const double bounded = kernel_us(gpu, &d, "O", bound[0]);
    cr_assert_eq(moe_gpu_what_if(gpu, "cutlass_moe.sum=0", NULL), MOE_OK);
    const double free_of_it = kernel_us(gpu, &d, "O", bound[1]);
    cr_expect_float_eq(bounded, by_hand, 1e-6 * by_hand, "%g us", bounded);
    cr_expect_str_eq(bound[0], "issue");
    cr_expect_lt(free_of_it, bounded);
    cr_expect_str_eq(bound[1], "hbm");
    moe_gpu_destroy(&gpu);
}

/* One k-step a tile of Y: its output takes longest, and at half the rate twice as long. */
Test(sim_tiles, epilogues_of_a_system) {
    const moe_layer_desc d = layer_of(4096, 64, 128, 8);
    char bound[16] = "";
    moe_gpu *gpu = load("b200-sxm");
    cr_assert_eq(moe_gpu_what_if(gpu, "tile_us=0", NULL), MOE_OK);
    cr_assert_eq(moe_gpu_what_if(gpu, "cutlass_moe.epilogue=0.1", NULL), MOE_OK);
    const double before = kernel_us(gpu, &d, "Y", bound);
    cr_expect_str_eq(bound, "epilogue");
    cr_assert_eq(moe_gpu_what_if(gpu, "cutlass_moe.epilogue=0.05", NULL), MOE_OK);
    const double after = kernel_us(gpu, &d, "Y", bound);
    cr_expect_float_eq(after / before, 2, 0.03, "%g, then %g us", before, after);
    moe_gpu_destroy(&gpu);
}
