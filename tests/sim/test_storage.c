/* What operands are stored in: bytes, rates, and who has kernels for it. */
#include "capture.h"
#include "layers.h"

#include <criterion/criterion.h>
#include <math.h>

static moe_prediction *gemm(const moe_gpu *gpu, int32_t storage, int64_t m, int64_t n, int64_t k) {
    const moe_workload state = {.storage = storage};
    moe_prediction *p = NULL;
    moe_predict_gemm(gpu, m, n, k, 1, &state, NULL, &p);
    return p;
}

/* Operands with their scales, results in bf16 (fp32 of TF32). */
Test(sim_storage, bytes_of_operands_and_scales) {
    static const struct {
        int32_t storage;
        double a, b, c; /* bytes of a value */
    } rows[] = {{MOE_STORAGE_BF16, 2, 2, 2},
                {MOE_STORAGE_F16, 2, 2, 2},
                {MOE_STORAGE_FP8, 1 + 4. / 128, 1 + 4. / 16384, 2},
                {MOE_STORAGE_MXFP8, 1 + 1. / 32, 1 + 1. / 32, 2},
                {MOE_STORAGE_NVFP4, 9. / 16, 9. / 16, 2},
                {MOE_STORAGE_MXFP4, 17. / 32, 17. / 32, 2},
                {MOE_STORAGE_INT8, 1, 1, 2},
                {MOE_STORAGE_TF32, 4, 4, 4}};
    const double m = 512, n = 4096, k = 2048;
    moe_gpu *gpu = load("b200-sxm");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        moe_prediction *p = gemm(gpu, rows[i].storage, 512, 4096, 2048);
        cr_assert(p, "%s", moe_storage_name(rows[i].storage));
        const double want = m * k * rows[i].a + k * n * rows[i].b + m * n * rows[i].c;
        cr_expect_float_eq(p->kernels[0].cost.hbm_bytes, want, 1, "%s: %g, not %g",
                           moe_storage_name(rows[i].storage), p->kernels[0].cost.hbm_bytes, want);
        moe_prediction_destroy(&p);
    }
    moe_gpu_destroy(&gpu);
}

/* A GPU without a rate, or without block scales in its instruction, says so. What is neither
 * tensor-bound nor throttled alike moves the ratio off that of the rates. */
Test(sim_storage, rates_of_gpus) {
    static const struct {
        const char *gpu;
        int32_t storage;
        double least, most; /* times as fast as bf16, of a large product; 0: refused */
    } rows[] = {{"a100-sxm", MOE_STORAGE_FP8, 0, 0},       {"a100-sxm", MOE_STORAGE_INT8, 1.5, 2},
                {"a100-sxm", MOE_STORAGE_TF32, 0.4, 0.52}, {"h100-sxm", MOE_STORAGE_FP8, 1.4, 2},
                {"h100-sxm", MOE_STORAGE_MXFP8, 0, 0},     {"h100-sxm", MOE_STORAGE_NVFP4, 0, 0},
                {"b200-sxm", MOE_STORAGE_MXFP8, 1.5, 2.1}, {"b200-sxm", MOE_STORAGE_NVFP4, 2, 4},
                {"gb300", MOE_STORAGE_INT8, 0.05, 0.1},    {"mi300x", MOE_STORAGE_NVFP4, 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        moe_gpu *gpu = load(rows[i].gpu);
        moe_prediction *p = gemm(gpu, rows[i].storage, 8192, 8192, 8192);
        moe_prediction *bf16 = gemm(gpu, MOE_STORAGE_BF16, 8192, 8192, 8192);
        const double times = p ? bf16->kernels[0].cost.us / p->kernels[0].cost.us : 0;
        cr_expect(times >= rows[i].least && times <= rows[i].most, "%s %s: %g", rows[i].gpu,
                  moe_storage_name(rows[i].storage), times);
        moe_prediction_destroy(&p), moe_prediction_destroy(&bf16);
        moe_gpu_destroy(&gpu);
    }
}

/* fp8 halves what a layer's weights take and what decoding streams; who has no kernels refuses. */
Test(sim_storage, methods) {
    const moe_layer_desc d = layer_of(4096, 1536, 128, 8);
    moe_workload w = {.layer = &d, .tokens = 16, .pass = MOE_PASS_FWD};
    moe_gpu *gpu = load("h100-sxm");
    int refused = 0;
    for (const char *const *m = moe_methods(); *m; m++) {
        moe_prediction *bf16 = NULL, *fp8 = NULL;
        capture seen;
        const moe_log log = capture_log(&seen);
        w.storage = MOE_STORAGE_BF16;
        cr_assert_eq(moe_predict(gpu, *m, &w, NULL, &bf16), MOE_OK);
        w.storage = MOE_STORAGE_FP8;
        const moe_status status = moe_predict(gpu, *m, &w, &log, &fp8);
        if (status) {
            refused++;
            cr_expect(status == MOE_E_UNSUPPORTED && strstr(seen.text, "no kernels for fp8"), "%s",
                      seen.text);
        } else {
            const double bytes = fp8->param_bytes / bf16->param_bytes;
            const double time = fp8->pass[MOE_PASS_TOTAL].us / bf16->pass[MOE_PASS_TOTAL].us;
            cr_expect(bytes > 0.5 && bytes < 0.52, "%s: %g", *m, bytes);
            cr_expect(time > 0.5 && time < 0.75, "%s: %g", *m, time);
        }
        moe_prediction_destroy(&bf16), moe_prediction_destroy(&fp8);
    }
    cr_expect_eq(refused, 6);
    moe_gpu_destroy(&gpu);
}

/* A linear layer makes its operands: 2 bytes of each value are read, and those of the type and its
 * scales written, by a kernel of its own. Other types have nothing to make. */
Test(sim_storage, products_convert) {
    static const struct {
        int32_t storage;
        double bytes; /* written for a value; 0: nothing is made */
    } types[] = {{MOE_STORAGE_FP8, 1 + 4. / 128},
                 {MOE_STORAGE_MXFP8, 1 + 1. / 32},
                 {MOE_STORAGE_NVFP4, 0.5 + 1. / 16},
                 {MOE_STORAGE_INT8, 1},
                 {MOE_STORAGE_BF16, 0},
                 {MOE_STORAGE_F16, 0},
                 {MOE_STORAGE_TF32, 0}};
    moe_gpu *gpu = NULL;
    cr_assert_eq(moe_gpu_load("b200-sxm", NULL, &gpu), MOE_OK);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        moe_prediction *p[2];
        for (int32_t converts = 0; converts < 2; converts++) {
            const moe_workload state = {.storage = types[i].storage, .converts = converts};
            cr_assert_eq(moe_predict_gemm(gpu, 1024, 512, 4096, 2, &state, NULL, &p[converts]),
                         MOE_OK);
        }
        const double more = p[1]->pass[MOE_PASS_TOTAL].us - p[0]->pass[MOE_PASS_TOTAL].us;
        if (types[i].bytes > 0) {
            cr_assert_eq(p[1]->n_kernels, 2);
            cr_expect_str_eq(p[1]->kernels[0].cost.name, "convert A");
            cr_expect_float_eq(p[1]->kernels[0].cost.hbm_bytes,
                               2 * 1024 * 4096. * (2 + types[i].bytes), 1, "%s",
                               moe_storage_name(types[i].storage));
            cr_expect_float_eq(more, p[1]->kernels[0].cost.us, 0.01 * more, "throttling aside");
        } else {
            cr_expect_eq(p[1]->n_kernels, 1);
            cr_expect_eq(more, 0);
        }
        moe_prediction_destroy(&p[0]);
        moe_prediction_destroy(&p[1]);
    }
    moe_gpu_destroy(&gpu);
}
