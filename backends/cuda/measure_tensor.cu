/* Tensor instructions alone: operands in registers or shared memory, nothing loaded. */
#include "measure.h"
#include "ptx.cuh"

#include <cuda_bf16.h>

namespace {

constexpr int ROUNDS = 2000, CHAINS = 4;

/* Eight warps, four chains of m16n8k16 each, so that no product waits for the last. */
__global__ void sync_rate(long long *clocks, float *sink) {
    float d[CHAINS][4] = {};
    const uint32_t a[4] = {threadIdx.x, 0, 0, 0};
    const long long begin = clock64();
    for (int i = 0; i < ROUNDS; i++)
        for (int c = 0; c < CHAINS; c++)
            ptx::mma16816<__nv_bfloat16>(d[c], a, 0, 0);
    if (threadIdx.x == 0)
        clocks[blockIdx.x] = clock64() - begin;
    for (int c = 0; c < CHAINS; c++)
        if (d[c][0] > 1)
            *sink = d[c][0];
}

template <int columns> __global__ void wide_rate(long long *clocks, float *sink) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    __shared__ __align__(1024) char tile[64 * 128 + 128 * 256];
    float d[columns / 2] = {};
    for (int i = threadIdx.x; i < (int)sizeof tile; i += blockDim.x)
        tile[i] = 0;
    ptx::fence_async_proxy();
    __syncthreads();
    const uint64_t a = ptx::matrix_descriptor(ptx::smem_address(tile), 16, 1024);
    const uint64_t b = ptx::matrix_descriptor(ptx::smem_address(tile + 64 * 128), 16, 1024);
    const long long begin = clock64();
    ptx::wgmma_fence();
    for (int i = 0; i < ROUNDS; i++) {
        ptx::wgmma<__nv_bfloat16, 0, 0, columns>(d, a, b, true);
        ptx::wgmma_commit();
        ptx::wgmma_wait<1>();
    }
    ptx::wgmma_wait<0>();
    if (threadIdx.x == 0)
        clocks[blockIdx.x] = clock64() - begin;
    if (d[0] > 1)
        *sink = d[0];
#else
    if (threadIdx.x == 0)
        clocks[blockIdx.x] = 0;
#endif
}

/* flops: of a block. The slowest block counts. */
template <class Kernel> double rate(Kernel kernel, int sms, int threads, double flops) {
    long long *clocks = measure_results(sms), slowest = 0;
    float *sink;
    MEASURE_CUDA(cudaMalloc(&sink, sizeof *sink));
    for (int i = 0; i < 2; i++)
        kernel<<<sms, threads>>>(clocks, sink);
    MEASURE_CUDA(cudaGetLastError());
    MEASURE_CUDA(cudaDeviceSynchronize());
    for (int i = 0; i < sms; i++)
        slowest = std::max(slowest, clocks[i]);
    cudaFreeHost(clocks);
    cudaFree(sink);
    return slowest > 0 ? flops / (double)slowest : 0;
}

/* Two warpgroups, as the library's kernels have: one's products start under the other's. */
template <int columns> double wide(int sms) {
    return rate(wide_rate<columns>, sms, 256, 2.0 * ROUNDS * 2 * 64 * columns * 16);
}

} // namespace

void measure_tensor(int sms, double *ret_sync, double ret_wide[3]) {
    *ret_sync = rate(sync_rate, sms, 256, 8.0 * ROUNDS * CHAINS * 2 * 16 * 8 * 16);
    ret_wide[0] = wide<64>(sms);
    ret_wide[1] = wide<128>(sms);
    ret_wide[2] = wide<256>(sms);
}
