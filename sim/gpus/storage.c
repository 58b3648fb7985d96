#include "sim/gpus/storage.h"

/* Layouts of scales: DeepSeek-V3's (arXiv 2412.19437, section 3.3.2) as DeepGEMM takes them; OCP
 * Microscaling Formats v1.0; NVFP4 as cuBLAS' documentation of narrow types describes it. */
static const moe_int_storage storages[MOE_STORAGE_COUNT] = {
    [MOE_STORAGE_BF16] = {"bf16", 2, 0, 0, 2, MOE_INT_GP_COUNT},
    [MOE_STORAGE_F16] = {"fp16", 2, 0, 0, 2, MOE_INT_GP_COUNT},
    [MOE_STORAGE_FP8] = {"fp8", 1, 4.0 / 128, 4.0 / (128 * 128), 2, MOE_INT_GP_FP8_RATE},
    [MOE_STORAGE_MXFP8] = {"mxfp8", 1, 1.0 / 32, 1.0 / 32, 2, MOE_INT_GP_FP8_RATE},
    [MOE_STORAGE_NVFP4] = {"nvfp4", 0.5, 1.0 / 16, 1.0 / 16, 2, MOE_INT_GP_FP4_RATE},
    [MOE_STORAGE_MXFP4] = {"mxfp4", 0.5, 1.0 / 32, 1.0 / 32, 2, MOE_INT_GP_FP4_RATE},
    [MOE_STORAGE_INT8] = {"int8", 1, 0, 0, 2, MOE_INT_GP_INT8_RATE},
    [MOE_STORAGE_TF32] = {"tf32", 4, 0, 0, 4, MOE_INT_GP_TF32_RATE},
};

#define LANES   128 /* fp32 multiply-adds a clock and SM */
#define SCALED  128 /* products that share a scale */
#define KSTEP   64
#define BLOCKED 100 /* arch from which tcgen05.mma takes scales of blocks */

const moe_int_storage *moe_int_storage_of(int32_t storage) {
    if (storage < 0 || storage >= MOE_STORAGE_COUNT || !storages[storage].name)
        return NULL;
    return &storages[storage];
}

const char *moe_storage_name(int32_t storage) {
    const moe_int_storage *s = moe_int_storage_of(storage);
    return s ? s->name : NULL;
}

double moe_int_storage_rate(const moe_int_storage *s, const double *p) {
    if (s == &storages[MOE_STORAGE_MXFP8] && p[MOE_INT_GP_ARCH] < BLOCKED)
        return 0;
    return s->rate == MOE_INT_GP_COUNT ? 1 : p[s->rate];
}

double moe_int_storage_promote(int32_t storage, const double *p) {
    const bool in_software = storage == MOE_STORAGE_FP8 && p[MOE_INT_GP_ARCH] < BLOCKED;
    return in_software ? (double)KSTEP / SCALED / LANES : 0;
}
