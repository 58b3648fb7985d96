/* O and dX: every token gathers its experts' rows and sums them in fp32, in the order of its pairs.
 * A warp owns a token: its pairs are looked up once and stay in L1 while the warp walks the row in
 * steps of 256 columns, with loads of eight pairs in flight. Memory-bound: the rows are read once,
 * the result is written once. */
#include "element.cuh"
#include "kernels.h"

namespace {

constexpr int WARPS = 8;

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
    const int t = (int)(blockIdx.x * WARPS + (threadIdx.x >> 5));
    if (t >= g.tokens)
        return;
    T *out = static_cast<T *>(g.out) + (int64_t)t * g.d;
    for (int c = ((int)threadIdx.x & 31) * 8; c < g.d; c += 256) {
        float sum[8] = {};
        if (g.start)
            for (int i = 0; i < 8; i++)
                sum[i] = g.start[(int64_t)t * g.d + c + i];
        add_pairs<T>(g, sum, t, c);
        if (g.shared)
            add(sum, static_cast<const T *>(g.shared) + (int64_t)t * g.d, c,
                g.shared_weight ? g.shared_weight[t] : 1.f);
        if (g.gate)
            add(sum, static_cast<const T *>(g.gate_row), c, g.gate[t]);
        *reinterpret_cast<uint4 *>(out + c) = pack8<T>(sum);
    }
}

} // namespace

cudaError_t combine(int dtype, const CombineArgs *args, cudaStream_t stream) {
    const unsigned blocks = (unsigned)((args->tokens + WARPS - 1) / WARPS);
    if (dtype == MOE_BF16)
        combine_kernel<__nv_bfloat16><<<blocks, WARPS * 32, 0, stream>>>(*args);
    else
        combine_kernel<__half><<<blocks, WARPS * 32, 0, stream>>>(*args);
    return cudaGetLastError();
}
