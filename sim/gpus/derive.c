/* Facts that follow from an architecture: what each is taken from stands in sim/README.md, "A GPU
 * of your own". */
#include "sim/gpus/derive.h"

#include <stddef.h>

/* One row for each generation, the first whose `from` is not above arch. */
typedef struct generation {
    int from;            /* arch */
    const char *nearest; /* the measured description */
    double mma_rows, mma_cols, mma_warps, tile_max, tile_pow2, cluster;
    double l2_parts, l2_bw, l2_latency, hbm_latency; /* of that description */
    double fp8, fp4, int8, tf32;                     /* rates against bf16 */
} generation;

/* Tile shapes, clusters and latencies: as in the descriptions of that generation, with their
 * sources. Rates: dense figures of the data sheets (GB300: 15000 fp4, 165 int8 of 2500 TFLOP/s).
 * sm_120 has neither wgmma nor tcgen05: it multiplies with mma.sync, as sm_80 does (PTX
 * ISA, target tables). */
static const generation generations[] = {
    {120, "a100-sxm", 64, 64, 4, 32768, 1, 1, 1, 47.4, 300, 650, 2, 4, 2, 0.5},
    {103, "b200-sxm", 128, 256, 1, 32768, 0, 4, 2, 74, 370, 900, 2, 6, 1 / 15.0, 0.5},
    {100, "b200-sxm", 128, 256, 1, 32768, 0, 4, 2, 74, 370, 900, 2, 4, 2, 0.5},
    {90, "h100-sxm", 64, 256, 1, 40960, 0, 2, 2, 41, 370, 665, 2, 0, 2, 0.5},
    {89, "a100-sxm", 64, 64, 4, 32768, 1, 1, 1, 47.4, 300, 650, 2, 0, 2, 0.5},
    {80, "a100-sxm", 64, 64, 4, 32768, 1, 1, 2, 47.4, 250, 560, 0, 0, 2, 0.5},
    {0, "a100-sxm", 64, 64, 4, 32768, 1, 1, 2, 47.4, 250, 560, 2, 0, 2, 0.5},
};

static const generation *generation_of(double arch) {
    const generation *g = generations;
    while (g->from > arch)
        g++;
    return g;
}

const char *moe_int_gpu_nearest(double arch) {
    return generation_of(arch)->nearest;
}

#define CLOCK_SHARE (1755.0 / 1980) /* h100-sxm, under tensor load with random data */

static bool of_generation(moe_int_gp i, double arch, double *ret) {
    const generation *g = generation_of(arch);
    const struct {
        moe_int_gp i;
        double value;
    } facts[] = {
        {MOE_INT_GP_FP8_RATE, g->fp8},
        {MOE_INT_GP_FP4_RATE, g->fp4},
        {MOE_INT_GP_INT8_RATE, g->int8},
        {MOE_INT_GP_TF32_RATE, g->tf32},
        {MOE_INT_GP_MMA_ROWS, g->mma_rows},
        {MOE_INT_GP_MMA_COLS, g->mma_cols},
        {MOE_INT_GP_MMA_WARPS, g->mma_warps},
        {MOE_INT_GP_TILE_MAX, g->tile_max},
        {MOE_INT_GP_TILE_POW2, g->tile_pow2},
        {MOE_INT_GP_CLUSTER, g->cluster},
        {MOE_INT_GP_L2_PARTS, g->l2_parts},
        {MOE_INT_GP_L2_BW, g->l2_bw},
        {MOE_INT_GP_L2_LATENCY, g->l2_latency},
        {MOE_INT_GP_HBM_LATENCY, g->hbm_latency},
        {MOE_INT_GP_SMEM_BW, 128}, /* 32 banks of 4 bytes, CUDA C programming guide */
        {MOE_INT_GP_STREAM_GAP_US, 1.2},
        {MOE_INT_GP_THROTTLE_MS, 1},
    };
    for (size_t f = 0; f < sizeof facts / sizeof *facts; f++) {
        if (facts[f].i == i) {
            *ret = facts[f].value;
            return true;
        }
    }
    return false;
}

bool moe_int_gpu_derive(moe_int_gp i, const double *p, double *ret) {
    if (i == MOE_INT_GP_CLOCK) {
        *ret = CLOCK_SHARE * p[MOE_INT_GP_CLOCK_MAX];
        return true;
    }
    return of_generation(i, p[MOE_INT_GP_ARCH], ret);
}
