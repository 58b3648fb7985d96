#include "sim/kernels/rates.h"
#include "sim/gpus/storage.h"

#include <math.h>

void moe_int_rates_of(const moe_gpu *gpu, moe_int_system system, const moe_workload *state,
                      moe_int_rates *ret) {
    const double *p = gpu->p, *s = gpu->sys[system];
    const bool constant = state->entropy == MOE_ENTROPY_CONSTANT;
    const double mhz = p[constant ? MOE_INT_GP_CLOCK_MAX : MOE_INT_GP_CLOCK];
    /* Memory, L2 and latencies do not follow the tensor cores' clock: they keep the one at which
     * their parameters were fitted. */
    const double memory_scale = p[MOE_INT_GP_CLOCK] / mhz;
    const double inflight =
        s[MOE_INT_SP_INFLIGHT_KIB] > 0 ? s[MOE_INT_SP_INFLIGHT_KIB] : p[MOE_INT_GP_INFLIGHT_KIB];
    const moe_int_storage *storage = moe_int_storage_of(state->storage);
    const double flops =
        p[MOE_INT_GP_TENSOR_FLOPS] * (storage ? moe_int_storage_rate(storage, p) : 1);
    const double promote = moe_int_storage_promote(state->storage, p);
    *ret = (moe_int_rates){
        .sms = p[MOE_INT_GP_SMS],
        .clock = mhz,
        .tensor = flops * p[MOE_INT_GP_TENSOR_EFF] * s[MOE_INT_SP_TENSOR],
        .tensor_peak = flops,
        .mma_rows = p[MOE_INT_GP_MMA_ROWS],
        .mma_cols = p[MOE_INT_GP_MMA_COLS],
        .warps = p[MOE_INT_GP_MMA_WARPS],
        .sync = p[MOE_INT_GP_SYNC],
        .promote = promote,
        .smem = p[MOE_INT_GP_SMEM_BW],
        .l2 = p[MOE_INT_GP_L2_BW] * s[MOE_INT_SP_LOAD] * memory_scale,
        .l2_latency = p[MOE_INT_GP_L2_LATENCY] / memory_scale,
        .hbm_latency = p[MOE_INT_GP_HBM_LATENCY] / memory_scale,
        .inflight = inflight * 1024,
        .l2_bytes = p[MOE_INT_GP_L2_MIB] * 1048576,
        .l2_shared = p[MOE_INT_GP_L2_MIB] * 1048576 / p[MOE_INT_GP_L2_PARTS],
        .hbm = p[MOE_INT_GP_HBM_BW] * 1e6 * fmin(1, p[MOE_INT_GP_HBM_EFF] * s[MOE_INT_SP_HBM]),
        .stream =
            p[MOE_INT_GP_HBM_BW] * 1e6 * fmin(1, p[MOE_INT_GP_HBM_EFF] * s[MOE_INT_SP_STREAM]),
        .hbm_nominal = p[MOE_INT_GP_HBM_BW] * 1e6,
        .overlap_p = p[MOE_INT_GP_OVERLAP_P],
        .kernel_us = p[MOE_INT_GP_KERNEL_US],
        .gap_us = s[MOE_INT_SP_GAP_US] + (state->in_stream ? p[MOE_INT_GP_STREAM_GAP_US] : 0),
        .fixed_us = s[MOE_INT_SP_FIXED_US],
        .half_lines = s[MOE_INT_SP_HALF_LINES],
        .scattered = s[MOE_INT_SP_SCATTERED],
        .sum = s[MOE_INT_SP_SUM],
        .tile_us = p[MOE_INT_GP_TILE_US],
        .epilogue = p[MOE_INT_GP_EPILOGUE_BW] * s[MOE_INT_SP_EPILOGUE],
        .hidden = fmax(s[MOE_INT_SP_HIDDEN], p[MOE_INT_GP_HIDDEN]),
        .drain = p[MOE_INT_GP_HIDDEN],
        .splitk_us = p[MOE_INT_GP_SPLITK_US],
        .splitk = p[MOE_INT_GP_SPLITK_EFF] * p[MOE_INT_GP_HBM_BW] * 1e6,
        .refetch = p[MOE_INT_GP_REFETCH],
        .cluster = p[MOE_INT_GP_CLUSTER],
        .tile_max = p[MOE_INT_GP_TILE_MAX] / (promote > 0 ? 2 : 1),
        .tile_pow2 = p[MOE_INT_GP_TILE_POW2] > 0,
        .throttle = constant ? 0 : p[MOE_INT_GP_THROTTLE],
        .throttle_us = state->clock == MOE_CLOCK_SETTLED ? 0 : p[MOE_INT_GP_THROTTLE_MS] * 1e3,
        .floor_flops = p[MOE_INT_GP_SMS] * flops * p[MOE_INT_GP_CLOCK_MAX],
    };
    ret->tensor = fmin(ret->tensor, ret->tensor_peak);
}

double moe_int_join(double a, double b, double p) {
    const double large = a > b ? a : b, small = a > b ? b : a;
    return large > 0 ? large * exp(log1p(pow(small / large, p)) / p) : 0;
}
