/* Internal: what operands of products are stored in: bytes, scales and rates. */
#ifndef MOE_SIM_STORAGE_H
#define MOE_SIM_STORAGE_H

#include "sim/gpus/params.h"

typedef struct moe_int_storage {
    const char *name;
    double element; /* bytes of an operand's value in a tile */
    double scales;  /* bytes of scales for each value of an activation */
    double weight_scales;
    double between;  /* bytes of a value of results, and of what lies between the products */
    moe_int_gp rate; /* against tensor_flops; MOE_INT_GP_COUNT: 1 */
} moe_int_storage;

/* NULL for MOE_STORAGE_OTHER and what is none. */
const moe_int_storage *moe_int_storage_of(int32_t storage);

/* Its tensor rate against bf16's on that GPU; 0: the GPU has none. */
double moe_int_storage_rate(const moe_int_storage *s, const double *p);

/* Clocks of a k-step for each accumulator: where scales are no part of the instruction every 128
 * products are multiplied by them and added up by the SM's 128 fp32 lanes, as DeepGEMM does
 * (deep_gemm/include/deep_gemm/impls/sm90_fp8_gemm_1d2d.cuh). A tile then has two accumulators. */
double moe_int_storage_promote(int32_t storage, const double *p);

#define MOE_INT_STORAGE_BIT(storage) (1u << (storage))
/* Every system has kernels for these. */
#define MOE_INT_STORAGE_16                                                                         \
    (MOE_INT_STORAGE_BIT(MOE_STORAGE_BF16) | MOE_INT_STORAGE_BIT(MOE_STORAGE_F16))
#define MOE_INT_STORAGE_FP8S                                                                       \
    (MOE_INT_STORAGE_BIT(MOE_STORAGE_FP8) | MOE_INT_STORAGE_BIT(MOE_STORAGE_MXFP8))
#define MOE_INT_STORAGE_FP4S                                                                       \
    (MOE_INT_STORAGE_BIT(MOE_STORAGE_NVFP4) | MOE_INT_STORAGE_BIT(MOE_STORAGE_MXFP4))
#define MOE_INT_STORAGE_ALL ((1u << MOE_STORAGE_COUNT) - 1)

#endif
