/* Any text as a GPU description: refused, or a description that predicts finite times. */
#include "moeref/model.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void predict(const moe_gpu *gpu) {
    moe_prediction *p = NULL;
    moe_layer_desc d;
    moe_layer_desc_init(&d);
    d.d = 512, d.n = 256, d.E = 8, d.K = 2;
    const moe_workload w = {.layer = &d, .tokens = 300};
    if (moe_predict(gpu, "moeref", &w, NULL, &p) == MOE_OK && !(p->total_us > 0))
        abort();
    moe_prediction_destroy(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    moe_gpu *gpu = NULL;
    if (moe_gpu_parse((const char *)data, size, "fuzz/gpu.json", NULL, &gpu) == MOE_OK)
        predict(gpu);
    moe_gpu_destroy(&gpu);
    return 0;
}
