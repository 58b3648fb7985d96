/* O and dX: every token gathers its experts' rows and sums them in fp32, in the order of its pairs.
 * A thread owns 16 bytes of one token; loads of eight pairs are in flight at a time. Memory-bound:
 * the rows are read once, the result is written once. */
#include "element.cuh"
#include "kernels.h"

namespace {

template <class T>
__device__ __forceinline__ void add(float (&sum)[8], const T *row, int c, float w) {
    float x[8];
    unpack8<T>(__ldg(reinterpret_cast<const uint4 *>(row + c)), x);
#pragma unroll
    for (int i = 0; i < 8; i++)
        sum[i] += w * x[i];
}

template <class T>
__device__ __forceinline__ void add_pairs(const CombineArgs &g, float (&sum)[8], int t, int c) {
    const T *rows = static_cast<const T *>(g.rows), *identity = static_cast<const T *>(g.identity);
    const int real = __ldg(g.offsets + g.E), end = __ldg(g.token_offsets + t + 1);
    for (int first = __ldg(g.token_offsets + t); first < end; first += 8) {
        uint4 v[8];
        float w[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            int pair = first + i < end ? __ldg(g.pair_of_token + first + i) : -1;
            const T *row = pair < 0      ? nullptr
                           : pair < real ? rows + (int64_t)pair * g.d
                                         : identity + (int64_t)t * g.d;
            w[i] = pair < 0 ? 0.f : pair < real && !g.weigh_rows ? 1.f : __ldg(g.weight + pair);
            v[i] = row ? __ldg(reinterpret_cast<const uint4 *>(row + c)) : make_uint4(0, 0, 0, 0);
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float x[8];
            unpack8<T>(v[i], x);
#pragma unroll
            for (int k = 0; k < 8; k++)
                sum[k] += w[i] * x[k];
        }
    }
}

template <class T> __global__ void __launch_bounds__(256) combine_kernel(const CombineArgs g) {
    const int chunks = g.d / 8;
    int64_t id = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (id >= (int64_t)g.tokens * chunks)
        return;
    const int t = (int)(id / chunks), c = (int)(id % chunks) * 8;
    uint4 *out = reinterpret_cast<uint4 *>(static_cast<T *>(g.out) + (int64_t)t * g.d + c);
    float sum[8] = {};
    if (g.accumulate)
        unpack8<T>(*out, sum);
    add_pairs<T>(g, sum, t, c);
    if (g.shared)
        add(sum, static_cast<const T *>(g.shared) + (int64_t)t * g.d, c,
            g.shared_weight ? g.shared_weight[t] : 1.f);
    if (g.gate)
        add(sum, static_cast<const T *>(g.gate_row), c, g.gate[t]);
    *out = pack8<T>(sum);
}

} // namespace

cudaError_t combine(int dtype, const CombineArgs *args, cudaStream_t stream) {
    int64_t threads = (int64_t)args->tokens * (args->d / 8);
    unsigned blocks = (unsigned)((threads + 255) / 256);
    if (dtype == MOE_BF16)
        combine_kernel<__nv_bfloat16><<<blocks, 256, 0, stream>>>(*args);
    else
        combine_kernel<__half><<<blocks, 256, 0, stream>>>(*args);
    return cudaGetLastError();
}
