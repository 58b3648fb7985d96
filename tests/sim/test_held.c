/* What rates and predictions are held to, and that those of nothing say so. */
#include "capture.h"
#include "moeref/fit.h"
#include "temporary.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static moe_gpu *load(const char *name) {
    moe_gpu *gpu = NULL;
    cr_assert_eq(moe_gpu_load(name, NULL, &gpu), MOE_OK, "%s", name);
    return gpu;
}

static moe_prediction *layer_of_tokens(const moe_gpu *gpu, const char *method, int32_t storage,
                                       int64_t tokens) {
    moe_case c;
    moe_prediction *p = NULL;
    const moe_workload state = {.storage = storage};
    cr_assert_eq(moe_case_parse("T=4096 d=2048 n=768 E=64 K=8 pass=fwd route=balanced", NULL, &c),
                 MOE_OK);
    c.T = tokens;
    const moe_workload w = moe_workload_of(&c, NULL, &state);
    cr_assert_eq(moe_predict(gpu, method, &w, NULL, &p), MOE_OK);
    return p;
}

static moe_prediction *layer(const moe_gpu *gpu, const char *method, int32_t storage) {
    return layer_of_tokens(gpu, method, storage, 4096);
}

static moe_prediction *product(const moe_gpu *gpu, int32_t storage) {
    moe_prediction *p = NULL;
    const moe_workload state = {.storage = storage};
    cr_assert_eq(moe_predict_gemm(gpu, 4096, 4096, 4096, 1, &state, NULL, &p), MOE_OK);
    return p;
}

static void expect_nothing(moe_prediction *p, const char *what) {
    const double us = p->pass[MOE_PASS_TOTAL].us;
    cr_expect_str_eq(p->held_to, "", "%s", what);
    cr_expect_float_eq(p->low_us / us, 0.75, 1e-9, "%s", what);
    cr_expect_float_eq(p->high_us / us, 1.4, 1e-9, "%s", what);
    moe_prediction_destroy(&p);
}

static void expect_held(moe_prediction *p, const char *to, bool own_interval) {
    const bool wide = p->high_us / p->pass[MOE_PASS_TOTAL].us > 1.3999;
    cr_expect(strstr(p->held_to, to), "\"%s\" lacks %s", p->held_to, to);
    cr_expect_eq(wide, !own_interval, "%s", to);
    moe_prediction_destroy(&p);
}

/* Types that nothing measured have the interval of what was never measured, whatever bf16's is. */
Test(sim_held, predictions_say_what_they_are_held_to) {
    moe_gpu *h100 = load("h100-sxm"), *b200 = load("b200-sxm");
    expect_held(product(h100, MOE_STORAGE_BF16), "2522", true);
    expect_held(product(h100, MOE_STORAGE_F16), "2522", true);
    expect_held(product(h100, MOE_STORAGE_FP8), "1220", false);
    expect_nothing(product(h100, MOE_STORAGE_INT8), "int8 product");
    expect_nothing(product(b200, MOE_STORAGE_NVFP4), "fp4 product");
    expect_held(layer(h100, "cutlass_moe", MOE_STORAGE_BF16), "MoE table", true);
    expect_nothing(layer(h100, "cutlass_moe", MOE_STORAGE_FP8), "fp8 layer");
    expect_nothing(layer(b200, "cutlass_moe", MOE_STORAGE_NVFP4), "fp4 layer");
    expect_held(layer(h100, "grouped_mm", MOE_STORAGE_BF16), "peers.tsv", true);
    expect_nothing(layer_of_tokens(h100, "grouped_mm", MOE_STORAGE_BF16, 64), "few tokens");
    moe_gpu_destroy(&h100);
    moe_gpu_destroy(&b200);
}

/* A chip's other boards have its interval, but that was not measured on them. */
Test(sim_held, an_assumed_interval_is_no_measurement) {
    moe_gpu *h200 = load("h200-sxm"), *h20 = load("h20");
    moe_prediction *p = layer(h200, "cutlass_moe", MOE_STORAGE_BF16);
    cr_expect_str_eq(p->held_to, "");
    moe_prediction_destroy(&p);
    expect_nothing(layer(h20, "grouped_mm", MOE_STORAGE_BF16), "a layer on a nominal GPU");
    moe_gpu_destroy(&h200);
    moe_gpu_destroy(&h20);
}

/* A rate is there and held to something, there and held to nothing, or not there. */
Test(sim_held, rates_of_shipped_descriptions) {
    for (const char *const *name = moe_gpu_names(); *name; name++) {
        moe_gpu *gpu = load(*name);
        for (int32_t s = 0; s < MOE_STORAGE_COUNT; s++) {
            const char *held = moe_gpu_rate_held_to(gpu, s);
            cr_expect(!held[0] || moe_gpu_rate(gpu, s) > 0, "%s has no %s", *name,
                      moe_storage_name(s));
        }
        cr_expect_eq(moe_gpu_rate(gpu, MOE_STORAGE_BF16), 1);
        cr_expect_eq(moe_gpu_rate(gpu, MOE_STORAGE_OTHER), 0);
        cr_expect_eq(moe_gpu_rate(gpu, MOE_STORAGE_COUNT), 0);
        cr_expect_str_eq(moe_gpu_rate_held_to(gpu, MOE_STORAGE_OTHER), "");
        moe_gpu_destroy(&gpu);
    }
    moe_gpu *a100 = load("a100-sxm"), *gb200 = load("gb200");
    cr_expect_eq(moe_gpu_rate(a100, MOE_STORAGE_FP8), 0);
    cr_expect_eq(moe_gpu_rate(a100, MOE_STORAGE_INT8), 2);
    cr_expect_str_eq(moe_gpu_rate_held_to(a100, MOE_STORAGE_INT8), "");
    cr_expect_str_eq(moe_gpu_rate_held_to(gb200, MOE_STORAGE_BF16), "");
    moe_gpu_destroy(&a100);
    moe_gpu_destroy(&gb200);
}

/* A fit to products of a type is what its rate is held to from then on, and no other's. */
Test(sim_held, a_fit_is_written_down) {
    char folder[TEMPORARY_BYTES], path[TEMPORARY_BYTES + 16];
    temporary_folder(folder);
    snprintf(path, sizeof path, "%s/t.tsv", folder);
    FILE *to = fopen(path, "w");
    cr_assert(to);
    fprintf(to, "m\tn\tk\tmedian_us\n");
    for (int k = 1024; k <= 16384; k *= 2)
        fprintf(to, "4096\t4096\t%d\t%d\n", k, 10 + k / 30);
    fclose(to);
    moe_table *table = NULL;
    moe_fit_result r;
    moe_gpu *gpu = load("b200-sxm"), *again = NULL;
    const moe_fit_params params = {
        .free_keys = "tensor_eff", .evaluations = 20, .storage = MOE_STORAGE_FP8};
    moe_gpu *before = load("b200-sxm");
    cr_assert_eq(moe_table_load(path, NULL, &table), MOE_OK);
    cr_assert_eq(moe_gpu_fit(gpu, table, &params, NULL, &r), MOE_OK);
    snprintf(path, sizeof path, "%s/g.json", folder);
    cr_assert_eq(moe_gpu_write(gpu, path, "fitted", "my rows", NULL), MOE_OK);
    cr_assert_eq(moe_gpu_load(path, NULL, &again), MOE_OK);
    cr_expect_str_eq(moe_gpu_rate_held_to(again, MOE_STORAGE_FP8), "my rows");
    cr_expect_str_eq(moe_gpu_rate_held_to(again, MOE_STORAGE_BF16),
                     moe_gpu_rate_held_to(before, MOE_STORAGE_BF16));
    expect_held(product(again, MOE_STORAGE_BF16), "739", true); /* whose interval stays */
    moe_table_destroy(&table);
    moe_gpu_destroy(&gpu);
    moe_gpu_destroy(&before);
    moe_gpu_destroy(&again);
    temporary_remove(folder);
}

/* The toy description with a member more. */
static moe_status with(const char *member, capture *seen) {
    char path[4096], text[1 << 15], more[1 << 16];
    const moe_log log = capture_log(seen);
    moe_gpu *gpu = NULL;
    snprintf(path, sizeof path, "%s/golden/sim/toy.json", getenv("MOEREF_SOURCE_ROOT"));
    FILE *in = fopen(path, "rb");
    cr_assert(in);
    text[fread(text, 1, sizeof text - 1, in)] = '\0';
    fclose(in);
    snprintf(more, sizeof more, "{\"rates_held_to\": %s, %s", member, strchr(text, '{') + 1);
    const moe_status status = moe_gpu_parse(more, strlen(more), "bad.json", &log, &gpu);
    moe_gpu_destroy(&gpu);
    return status;
}

Test(sim_held, bad_words_are_refused) {
    capture seen;
    cr_expect_eq(with("{\"bf16\": \"rows\"}", &seen), MOE_OK, "%s", seen.text);
    cr_expect_eq(with("{\"fp6\": \"rows\"}", &seen), MOE_E_FORMAT);
    cr_expect(strstr(seen.text, "fp6"), "%s", seen.text);
    cr_expect_eq(with("{\"bf16\": 3}", &seen), MOE_E_FORMAT);
    cr_expect(strstr(seen.text, "bf16"), "%s", seen.text);
    cr_expect_eq(with("[]", &seen), MOE_E_FORMAT);
    cr_expect(strstr(seen.text, "rates_held_to"), "%s", seen.text);
}
