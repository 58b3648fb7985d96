/* How rows become tiles: rounds of all SMs, and clusters where a GPU has them. */
#include "layers.h"

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
 * clusters they are three, and one of its expert's rows more or less pads one tile alone. */
Test(sim_tiles, clusters_pad_rows) {
    static const struct {
        const char *gpu;
        double over; /* row tiles of 255 and 257 rows */
    } gpus[] = {
        {"h100-sxm", 6}, {"h100-pcie", 6}, {"h200-sxm", 6}, {"b200-sxm", 6}, {"a100-sxm", 5}};
    const moe_layer_desc d = layer_of(4096, 1024, 2, 1);
    const int64_t even[2] = {256, 256}, odd[2] = {255, 257};
    moe_workload w = {.layer = &d, .tokens = 512, .pass = MOE_PASS_FWD};
    for (size_t i = 0; i < sizeof gpus / sizeof *gpus; i++) {
        moe_gpu *gpu = load(gpus[i].gpu);
        for (int m = 0; m < 2; m++) {
            const char *method = m ? "grouped_mm" : "sonicmoe", *kernel = m ? "H" : "A";
            double full, over;
            w.counts = even;
            cr_expect_eq(tiles_of(gpu, method, kernel, &w, &full), 4 * 8, "%s", gpus[i].gpu);
            w.counts = odd;
            cr_expect_eq(tiles_of(gpu, method, kernel, &w, &over), gpus[i].over * 8, "%s",
                         gpus[i].gpu);
            cr_expect_float_eq(full, 0, 1e-6);
            cr_expect_float_eq(over, 1 - 4 / gpus[i].over, 1e-6, "%s: %g", gpus[i].gpu, over);
        }
        moe_gpu_destroy(&gpu);
    }
}
