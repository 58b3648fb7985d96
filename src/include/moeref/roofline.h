/* A first model of any device: two measured ceilings, and what each stage must at least do. */
#ifndef MOEREF_ROOFLINE_H
#define MOEREF_ROOFLINE_H

#include "moeref/cost.h"
#include "moeref/stage.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Measured ceilings of a device.
 * Thread-safety: plain data. */
typedef struct moe_roofline {
    double gemm_flops;  /* FLOP/s of one large GEMM in the backend's arithmetic */
    double memory_rate; /* bytes/s of a large copy, read and written bytes counted */
    char source[96];    /* "cblas_sgemm 2048^3, 2 threads; memcpy 256 MiB" */
} moe_roofline;

/* A stage's name, model FLOPs and bytes (moe_stage_work, `size` bytes an element); same errors. */
MOE_API moe_status moe_stage_cost(const moe_layer_desc *desc, moe_stage stage, int64_t tokens,
                                  int64_t pairs, int64_t active, size_t size, moe_cost *ret);

/* Time of a stage on a roofline: the larger of FLOPs over the GEMM rate and bytes over the memory
 * rate. Sets us, floor_us and bound_by. No launch cost, no cache, no tile effects. */
MOE_API void moe_roofline_time(const moe_roofline *roofline, moe_cost *cost);

#ifdef __cplusplus
}
#endif
#endif
