/* Layers at the edge of what can be asked, and beyond. */
#include "capture.h"
#include "layers.h"

#include <criterion/criterion.h>
#include <math.h>

Test(sim_edges, degenerate_layers) {
    moe_gpu *gpu = load("h100-sxm");
    const moe_layer_desc d = layer_of(64, 64, 256, 1);
    const int64_t none[256] = {0};
    for (const char *const *m = moe_methods(); *m; m++) {
        moe_prediction *p = NULL;
        const moe_workload w = {
            .layer = &d, .tokens = 1, .counts = none, .pass = has_backward(*m) ? 3 : 1};
        cr_expect_eq(moe_predict(gpu, *m, &w, NULL, &p), MOE_OK, "%s", *m);
        cr_expect(isfinite(p->pass[MOE_PASS_TOTAL].us) && p->pass[MOE_PASS_TOTAL].flops == 0,
                  "%s: %g us", *m, p->pass[MOE_PASS_TOTAL].us);
        moe_prediction_destroy(&p);
    }
    moe_gpu_destroy(&gpu);
}

/* Without counts a layer with zero experts is predicted too: as its router would spread its tokens.
 */
Test(sim_edges, no_counts) {
    moe_gpu *gpu = load("h100-sxm");
    moe_layer_desc d = layer_of(1024, 512, 8, 9);
    int64_t counts[8];
    moe_prediction *p;
    d.n_zero = 4;
    for (int64_t e = 0; e < 8; e++)
        counts[e] = 4096 * 9 / 12;
    const moe_workload w = {.layer = &d, .tokens = 4096, .counts = counts};
    cr_assert_eq(moe_predict(gpu, "moeref", &w, NULL, &p), MOE_OK);
    moe_prediction *drawn = predict(gpu, "moeref", &d, 4096, MOE_PASS_BOTH);
    cr_expect_eq(drawn->pass[MOE_PASS_TOTAL].us, p->pass[MOE_PASS_TOTAL].us);
    moe_prediction_destroy(&p), moe_prediction_destroy(&drawn);
    moe_gpu_destroy(&gpu);
}

static void expect_error(const moe_gpu *gpu, const char *method, const moe_workload *w,
                         moe_status status, const char *word) {
    capture seen;
    const moe_log log = capture_log(&seen);
    moe_prediction *p = NULL;
    cr_expect_eq(moe_predict(gpu, method, w, &log, &p), status, "%s", word);
    cr_expect_null(p);
    cr_expect(strstr(seen.text, word), "\"%s\" does not say %s", seen.text, word);
}

Test(sim_edges, errors) {
    moe_gpu *gpu = load("h100-sxm");
    const moe_layer_desc d = layer_of(64, 64, 4, 2), bad = layer_of(64, 64, 4, 5);
    const int64_t many[4] = {9, 0, 0, 0};
    moe_prediction *p = NULL;
    expect_error(gpu, "nope", &(moe_workload){.layer = &d, .tokens = 8}, MOE_E_NOTFOUND,
                 "sonicmoe");
    expect_error(gpu, "cutlass_moe", &(moe_workload){.layer = &d, .tokens = 8}, MOE_E_UNSUPPORTED,
                 "backward");
    expect_error(gpu, "moeref",
                 &(moe_workload){.layer = &d, .tokens = 8, .storage = MOE_STORAGE_OTHER},
                 MOE_E_UNSUPPORTED, "bf16 and fp16");
    expect_error(gpu, "moeref", &(moe_workload){.layer = &d, .tokens = 8, .counts = many},
                 MOE_E_INVALID, "expert 0");
    expect_error(gpu, "moeref", &(moe_workload){.layer = &bad, .tokens = 8}, MOE_E_INVALID, "K");
    const moe_layer_desc huge = layer_of(64, 64, INT64_MAX / 4, INT64_MAX / 8);
    cr_expect_eq(moe_predict(gpu, "moeref",
                             &(moe_workload){.layer = &huge, .tokens = INT64_MAX / 2}, NULL, &p),
                 MOE_E_INVALID);
    cr_expect_eq(moe_predict_gemm(gpu, 0, 1, 1, 1, NULL, NULL, &p), MOE_E_INVALID);
    cr_expect_eq(moe_predict_gemm(gpu, 1, 1, 1, INT64_MAX, NULL, NULL, &p), MOE_E_INVALID);
    moe_gpu_destroy(&gpu);
}

/* What lies beside the counts in memory is no expert's. */
Test(sim_edges, counts_have_ends) {
    const moe_layer_desc d = layer_of(1024, 512, 4, 2);
    const int64_t beside[6] = {1000000, 100, 300, 112, 512, 1000000},
                  alone[6] = {0, 100, 300, 112, 512, 0};
    moe_gpu *gpu = load("h100-sxm");
    for (const char *const *name = moe_methods(); *name; name++) {
        const char *method = *name;
        moe_workload w = {.layer = &d,
                          .tokens = 512,
                          .pass = has_backward(method) ? MOE_PASS_BOTH : MOE_PASS_FWD};
        moe_prediction *a = NULL, *b = NULL;
        w.counts = beside + 1;
        cr_assert_eq(moe_predict(gpu, method, &w, NULL, &a), MOE_OK);
        w.counts = alone + 1;
        cr_assert_eq(moe_predict(gpu, method, &w, NULL, &b), MOE_OK);
        cr_assert_eq(a->n_kernels, b->n_kernels);
        for (size_t i = 0; i < a->n_kernels; i++) {
            const moe_cost *x = &a->kernels[i].cost, *y = &b->kernels[i].cost;
            cr_expect(x->us == y->us && x->tiles == y->tiles && x->flops == y->flops, "%s: %s",
                      method, x->name);
        }
        cr_expect_eq(a->pass[MOE_PASS_TOTAL].us, b->pass[MOE_PASS_TOTAL].us, "%s", method);
        moe_prediction_destroy(&a), moe_prediction_destroy(&b);
    }
    moe_gpu_destroy(&gpu);
}
