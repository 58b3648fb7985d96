/* Layers and GPUs that tests of the model ask about. */
#ifndef MOE_TESTS_SIM_LAYERS_H
#define MOE_TESTS_SIM_LAYERS_H

#include "moeref/model.h"

#include <criterion/criterion.h>
#include <string.h>

static inline moe_layer_desc layer_of(int64_t d, int64_t n, int64_t E, int64_t K) {
    moe_layer_desc desc;
    moe_layer_desc_init(&desc);
    desc.d = d, desc.n = n, desc.E = E, desc.K = K;
    return desc;
}

static inline moe_gpu *load(const char *name) {
    moe_gpu *gpu = NULL;
    cr_assert_eq(moe_gpu_load(name, NULL, &gpu), MOE_OK);
    return gpu;
}

static inline moe_prediction *predict(const moe_gpu *gpu, const char *method,
                                      const moe_layer_desc *d, int64_t tokens, int32_t pass) {
    const moe_workload w = {.layer = d, .tokens = tokens, .pass = pass};
    moe_prediction *p = NULL;
    cr_assert_eq(moe_predict(gpu, method, &w, NULL, &p), MOE_OK, "%s", method);
    return p;
}

static inline int has_backward(const char *method) {
    return strcmp(method, "cutlass_moe") != 0 && strcmp(method, "triton_fused_moe") != 0 &&
           strcmp(method, "sglang_fused_moe") != 0;
}

/* Kernels of some methods are written for one architecture. */
static inline int runs_on(const moe_gpu *gpu, const char *method) {
    static const struct {
        const char *method;
        double least, most;
    } only[] = {{"sonicmoe", 90, 90},     {"moeref", 90, 90},      {"deepgemm", 90, 103},
                {"cutlass_moe", 80, 103}, {"grouped_mm", 80, 120}, {"megablocks", 80, 120}};
    double arch = 0;
    cr_assert_eq(moe_gpu_get(gpu, "arch", &arch), MOE_OK);
    for (size_t i = 0; i < sizeof only / sizeof *only; i++) {
        if (strcmp(only[i].method, method) == 0)
            return arch >= only[i].least && arch <= only[i].most;
    }
    return 1;
}

#endif
