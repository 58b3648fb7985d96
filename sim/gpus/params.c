/* The tables of a GPU description. A new number is one row here and one in the enum. */
#include "sim/gpus/params.h"

#include <math.h>
#include <string.h>

/* clang-format off */
const moe_gpu_param moe_int_gpu_params[MOE_INT_GP_COUNT] = {
    {"arch", "", "compute capability without its point: 80, 90, 100 ...; 0: not NVIDIA's", 0, 999, 0, .whole = 1},
    {"sms", "", "streaming multiprocessors", 1, 1024, 0, .whole = 1},
    {"clock_max_mhz", "MHz", "highest SM clock (constant data, memory-bound work)", 100, 5000, 0},
    {"clock_mhz", "MHz", "SM clock under tensor load with random data, before power throttling", 100, 5000, 0},
    {"tensor_flops", "FLOP/clock/SM", "dense bf16 and fp16 tensor-core rate", 64, 1e6, 0},
    {"fp8_rate", "", "fp8 tensor-core rate against tensor_flops; 0: it has none", 0, 16, 0},
    {"fp4_rate", "", "the same of fp4", 0, 16, 0},
    {"int8_rate", "", "the same of int8", 0, 16, 0},
    {"tf32_rate", "", "the same of TF32", 0, 16, 0},
    {"mma_rows", "", "rows of one tensor-core instruction's shared-memory operand", 8, 512, 0, .whole = 1},
    {"mma_cols", "", "its columns", 8, 512, 0, .whole = 1},
    {"mma_warps", "", "warps that share a tile, each with operands of its own (mma.sync); 1: the SM's warps share one (wgmma, tcgen05)", 1, 64, 0, .whole = 1},
    {"tile_max", "", "accumulators of one tile that fit an SM", 256, 1e6, 0, .whole = 1},
    {"tile_pow2", "", "1: tiles of its libraries have sides of powers of two; 0: any", 0, 1, 0, .whole = 1},
    {"cluster", "", "CTAs of a cluster, which share operand loads by multicast; 1: the GPU has no clusters", 1, 16, 0, .whole = 1},
    {"epilogue_hidden", "", "share of a tile's epilogue under the next tile's main loop, whatever the system: accumulators of two tiles in tensor memory", 0, 1, 1},
    {"smem_bw", "B/clock/SM", "shared-memory read rate", 8, 4096, 0},
    {"l2_mib", "MiB", "L2 cache", 0.25, 4096, 0},
    {"l2_parts", "", "partitions of it, each of which keeps its own copy of what all SMs read", 1, 64, 0, .whole = 1},
    {"l2_bw", "B/clock/SM", "L2 read rate of one SM while all load", 1, 4096, 1},
    {"l2_latency", "clocks", "latency of an L2 hit", 10, 10000, 0},
    {"hbm_bw", "TB/s", "nominal memory bandwidth", 0.01, 100, 0},
    {"hbm_gib", "GiB", "device memory", 0.25, 10000, 0},
    {"hbm_latency", "clocks", "latency of an L2 miss", 10, 20000, 0},
    {"stream_gap_us", "us", "launch gap in a stream beyond that in a CUDA graph", 0, 1000, 0},
    {"tensor_eff", "", "share of the tensor rate that a main loop reaches", 0.05, 1, 1},
    {"hbm_eff", "", "share of the memory bandwidth that a kernel reaches", 0.05, 1, 1},
    {"inflight_kib", "KiB", "bytes that one SM keeps in flight to memory", 0.5, 1024, 1},
    {"overlap_p", "", "exponent of the norm that joins compute and memory time (large: perfect overlap)", 1, 100, 1},
    {"kernel_us", "us", "launch in a CUDA graph, first loads and drain of one kernel", 0, 1000, 1},
    {"tile_us", "us", "pipeline fill of one tile", 0, 100, 1},
    {"sync_clocks", "clocks", "of a k-step in which no warp multiplies: barriers of kernels whose warps all do the same", 0, 2000, 1},
    {"epilogue_bw", "B/clock/SM", "rate of a tile's output through the epilogue", 0.5, 4096, 1},
    {"splitk_us", "us", "fix-up of a split-K GEMM", 0, 1000, 1},
    {"splitk_eff", "", "rate of the partial sums, in nominal memory bandwidths", 0.01, 100, 1},
    {"refetch", "", "share of the tile waves' repeated reads that misses L2", 0, 1, 1},
    {"throttle", "", "slow-down of settled tensor-bound work against burst", 0, 4, 1},
    {"throttle_ms", "ms", "continuous work after which half of it has come", 0.01, 1e5, 0},
};

const moe_gpu_param moe_int_system_params[MOE_INT_SP_COUNT] = {
    {"tensor", "", "main-loop rate against tensor_eff", 0.02, 3, 1},
    {"hbm", "", "bandwidth of its GEMMs against hbm_eff", 0.05, 3, 1},
    {"stream", "", "bandwidth of its memory-bound kernels against hbm_eff", 0.02, 3, 1},
    {"load", "", "L2 to shared-memory rate of its GEMMs against l2_bw", 0.05, 5, 1},
    {"inflight_kib", "KiB", "bytes in flight per SM of its GEMMs; 0: the GPU's own", 0, 1024, 1},
    {"hidden", "", "share of the epilogue that overlaps the next tile (ping-pong)", 0, 1, 1},
    {"gap_us", "us", "beyond kernel_us, for each kernel", 0, 10000, 1},
    {"fixed_us", "us", "once per pass: sorting, metadata, host work", 0, 100000, 1},
    {"half_lines", "", "what memory loses on weights that come in pieces of 64 bytes, as if so much more were read", 0, 2, 1},
    {"scattered", "", "what L2 loses on gathered rows that it does not hold, as if so much more were loaded", 0, 8, 1},
    {"epilogue", "", "rate of its tiles' output against epilogue_bw", 0.02, 10, 1},
    {"sum", "elements/clock/SM", "of its kernel that adds up each token's rows; 0: as fast as memory", 0, 1024, 1},
};
/* clang-format on */

const double moe_int_system_defaults[MOE_INT_SP_COUNT] = {1, 1, 1, 1, 0, 0, 0, 0, 0.25, 0, 1, 0};

#define NAME(constant, name) #name,
const char *const moe_int_system_names[MOE_INT_SYS_COUNT + 1] = {MOE_INT_SYSTEMS(NAME)};

const char *const moe_int_size_names[MOE_INT_SIZES] = {"small", "large"};

moe_int_system moe_int_system_find(const char *name, size_t length) {
    return (moe_int_system)moe_int_described_name(moe_int_system_names, name, length);
}

bool moe_int_gpu_allows(const moe_gpu_param *info, double value) {
    return value >= info->least && value <= info->greatest &&
           (!info->whole || value == floor(value));
}

moe_gpu_param moe_gpu_param_at(size_t i) {
    return i < MOE_INT_GP_COUNT ? moe_int_gpu_params[i] : (moe_gpu_param){0};
}

moe_int_numbers moe_int_gpu_numbers(moe_gpu *gpu) {
    return (moe_int_numbers){moe_int_gpu_params, MOE_INT_GP_COUNT, gpu->p, gpu->set_p};
}

moe_int_numbers moe_int_gpu_numbers_of(moe_gpu *gpu, int system) {
    return (moe_int_numbers){moe_int_system_params, MOE_INT_SP_COUNT, gpu->sys[system],
                             gpu->set_sys[system]};
}

double *moe_int_gpu_slot(moe_gpu *gpu, const char *key, const moe_gpu_param **ret_info,
                         unsigned char **ret_set) {
    const char *dot = strchr(key, '.');
    if (!dot)
        return moe_int_numbers_slot(moe_int_gpu_numbers(gpu), key, ret_info, ret_set);
    const moe_int_system s = moe_int_system_find(key, (size_t)(dot - key));
    return s == MOE_INT_SYS_COUNT ? NULL
                                  : moe_int_numbers_slot(moe_int_gpu_numbers_of(gpu, (int)s),
                                                         dot + 1, ret_info, ret_set);
}
