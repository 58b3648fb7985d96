/* The model's kernels and the measured tables speak of stages that the table holds. */
#include "layers.h"
#include "moeref/fit.h"

#include <stdio.h>
#include <stdlib.h>

static void expect_known(const moe_prediction *p, const char *method) {
    for (size_t i = 0; i < p->n_kernels; i++) {
        const moe_kernel *k = &p->kernels[i];
        const int32_t pass = k->backward ? MOE_PASS_BWD : MOE_PASS_FWD;
        moe_kernel found;
        cr_assert(k->stage >= 0 && k->stage < MOE_STAGE_COUNT, "%s: %s", method, k->cost.name);
        const moe_stage_info info = moe_stage_info_of((moe_stage)k->stage);
        cr_expect_str_eq(k->cost.name, info.name);
        cr_expect(info.pass & pass, "%s: %s is not in the table's pass", method, info.name);
        cr_expect_eq(moe_prediction_stage(p, info.name, &found), MOE_OK, "%s: %s", method,
                     info.name);
    }
}

Test(sim_stages, every_kernel_of_every_method_is_in_the_table) {
    moe_gpu *gpu = load("h100-sxm");
    for (const char *const *m = moe_methods(); *m; m++) {
        for (int i = 0; i < 8; i++) {
            moe_layer_desc d = layer_of(1024, 512, 16, 2);
            d.act = i & 1 ? MOE_ACT_RELU2 : MOE_ACT_SWIGLU;
            d.n_shared = i & 2 ? 256 : 0;
            const moe_workload w = {.layer = &d,
                                    .tokens = 2048,
                                    .with_router = i >> 2,
                                    .pass = has_backward(*m) ? MOE_PASS_BOTH : MOE_PASS_FWD};
            moe_prediction *p = NULL;
            cr_assert_eq(moe_predict(gpu, *m, &w, NULL, &p), MOE_OK, "%s", *m);
            expect_known(p, *m);
            moe_prediction_destroy(&p);
        }
    }
    moe_gpu_destroy(&gpu);
}

/* The kernel of that name alone; where there is none, its parts of the same pass. */
Test(sim_stages, a_stage_is_its_kernel_or_its_parts) {
    moe_gpu *gpu = load("h100-sxm");
    const moe_layer_desc d = layer_of(1024, 512, 16, 2);
    moe_prediction *p = predict(gpu, "deepgemm", &d, 2048, MOE_PASS_BOTH);
    moe_kernel whole, gate, up;
    cr_assert_eq(moe_prediction_stage(p, "dW2", &whole), MOE_OK);
    cr_assert_eq(moe_prediction_stage(p, "dW2 bf16", &gate), MOE_OK);
    for (size_t i = 0; i < p->n_kernels; i++)
        if (p->kernels[i].stage == MOE_STAGE_DW2)
            cr_expect_eq(p->kernels[i].cost.us, whole.cost.us);
    cr_expect_eq(moe_prediction_stage(p, "router", &whole), MOE_E_NOTFOUND);
    cr_expect_eq(moe_prediction_stage(p, "up_proj", &whole), MOE_E_NOTFOUND);
    moe_prediction_destroy(&p);
    p = predict(gpu, "megablocks", &d, 2048, MOE_PASS_BOTH);
    cr_assert_eq(moe_prediction_stage(p, "dW1", &whole), MOE_OK);
    cr_assert_eq(moe_prediction_stage(p, "dW1 gate", &gate), MOE_OK);
    cr_assert_eq(moe_prediction_stage(p, "dW1 up", &up), MOE_OK);
    cr_expect_float_eq(whole.cost.us, gate.cost.us + up.cost.us, 1e-9);
    cr_expect_str_eq(whole.cost.name, "dW1");
    moe_prediction_destroy(&p);
    p = predict(gpu, "momoe", &d, 2048, MOE_PASS_BWD);
    cr_expect_eq(moe_prediction_stage(p, "A", &whole), MOE_E_NOTFOUND, "H again is not A");
    moe_prediction_destroy(&p);
    moe_gpu_destroy(&gpu);
}

/* A product of no layer has a name, and is no stage. */
Test(sim_stages, a_product_alone_is_no_stage) {
    moe_gpu *gpu = load("h100-sxm");
    moe_prediction *p = NULL;
    moe_kernel found;
    cr_assert_eq(moe_predict_gemm(gpu, 512, 512, 512, 1, NULL, NULL, &p), MOE_OK);
    cr_expect_str_eq(p->kernels[0].cost.name, "gemm");
    cr_expect_eq(p->kernels[0].stage, MOE_STAGE_COUNT);
    cr_expect_eq(moe_prediction_stage(p, "gemm", &found), MOE_E_NOTFOUND);
    moe_prediction_destroy(&p);
    moe_gpu_destroy(&gpu);
}

Test(sim_stages, measured_kernels_are_in_the_table) {
    static const char *const files[] = {"timing/h100-sxm/moeref.json", "timing/h100-sxm/bench.json",
                                        "sim/grouped_mm.json", "sim/scattermoe.json"};
    moe_gpu *gpu = load("h100-sxm");
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        char path[1024];
        moe_table *table = NULL;
        snprintf(path, sizeof path, "%s/golden/%s", getenv("MOEREF_SOURCE_ROOT"), files[f]);
        cr_assert_eq(moe_table_load(path, NULL, &table), MOE_OK, "%s", path);
        const char *method = strstr(path, "scatter")   ? "scattermoe"
                             : strstr(path, "grouped") ? "grouped_mm"
                                                       : "moeref";
        const moe_fit_params params = {.method = method, .clock = MOE_CLOCK_SETTLED};
        for (size_t i = 0; i < moe_table_rows(table); i++) {
            moe_row_error e;
            moe_stage stage;
            const moe_status status = moe_table_predict(table, i, gpu, &params, NULL, &e);
            cr_assert_eq(status, MOE_OK, "%s: row %zu", files[f], i);
            cr_expect(e.kind != MOE_ROW_KERNEL || moe_stage_parse(e.kernel, &stage) == MOE_OK,
                      "%s: %s", files[f], e.kernel);
        }
        moe_table_destroy(&table);
    }
    moe_gpu_destroy(&gpu);
}
