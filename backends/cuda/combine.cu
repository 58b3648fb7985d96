/* O and dX: every token gathers its experts' rows and sums them in fp32, in the order of its pairs.
 * A warp owns a token: its pairs are looked up once and stay in L1 while the warp walks the row in
 * steps of 256 columns, with eight loads in flight: of eight pairs or, where a token has but two,
 * of four steps. Memory-bound: the rows are read once, the result is written once. */
#include "element.cuh"
#include "kernels.h"

namespace {

constexpr int WARPS = 8;
constexpr int FULL_WARPS = 16; /* as many as a multiprocessor has registers for */
constexpr int STEP = 256;      /* columns that a warp loads at once */

template <class T>
__device__ __forceinline__ void add(float (&sum)[8], const T *row, int c, float w) {
    float x[8];
    unpack8<T>(__ldg(reinterpret_cast<const uint4 *>(row + c)), x);
#pragma unroll
    for (int i = 0; i < 8; i++)
        sum[i] += w * x[i];
}

/* PAIRS of the token's pairs at a time, at columns c, c + 256 ... */
template <class T, int PAIRS, int STEPS>
__device__ __forceinline__ void add_pairs(const CombineArgs &g, float (&sum)[STEPS][8], int t,
                                          int c) {
    const T *rows = static_cast<const T *>(g.rows), *identity = static_cast<const T *>(g.identity);
    const int real = __ldg(g.offsets + g.E), end = __ldg(g.token_offsets + t + 1);
    for (int first = __ldg(g.token_offsets + t); first < end; first += PAIRS) {
        uint4 v[PAIRS][STEPS];
        float w[PAIRS];
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            int pair = first + i < end ? __ldg(g.pair_of_token + first + i) : -1;
            const T *row = pair < 0       ? nullptr
                           : pair >= real ? identity + (int64_t)t * g.d
                           : g.row_at     ? static_cast<const T *>(g.row_at[pair])
                                          : rows + (int64_t)pair * g.d;
            w[i] = pair < 0 ? 0.f : pair < real && !g.weigh_rows ? 1.f : __ldg(g.weight + pair);
#pragma unroll
            for (int s = 0; s < STEPS; s++)
                v[i][s] = row && c + STEP * s < g.d
                              ? __ldg(reinterpret_cast<const uint4 *>(row + c + STEP * s))
                              : make_uint4(0, 0, 0, 0);
        }
#pragma unroll
        for (int i = 0; i < PAIRS; i++)
#pragma unroll
            for (int s = 0; s < STEPS; s++) {
                float x[8];
                unpack8<T>(v[i][s], x);
#pragma unroll
                for (int k = 0; k < 8; k++)
                    sum[s][k] += w[i] * x[k];
            }
    }
}

/* What a token has besides its pairs, and out with the sum. */
template <class T>
__device__ __forceinline__ void finish(const CombineArgs &g, float (&sum)[8], int t, int c) {
    if (g.shared)
        add(sum, static_cast<const T *>(g.shared) + (int64_t)t * g.d, c,
            g.shared_weight ? g.shared_weight[t] : 1.f);
    if (g.gate)
        add(sum, static_cast<const T *>(g.gate_row), c, g.gate[t]);
    *reinterpret_cast<uint4 *>(static_cast<T *>(g.out) + (int64_t)t * g.d + c) = pack8<T>(sum);
}

template <class T, int PAIRS, int STEPS>
__device__ __forceinline__ void combine_token(const CombineArgs &g, int t) {
    for (int c = ((int)threadIdx.x & 31) * 8; c < g.d; c += STEP * STEPS) {
        float sum[STEPS][8] = {};
#pragma unroll
        for (int s = 0; s < STEPS; s++)
            if (g.start && c + STEP * s < g.d)
                for (int i = 0; i < 8; i++)
                    sum[s][i] = g.start[(int64_t)t * g.d + c + STEP * s + i];
        add_pairs<T, PAIRS, STEPS>(g, sum, t, c);
#pragma unroll
        for (int s = 0; s < STEPS; s++)
            if (c + STEP * s < g.d)
                finish<T>(g, sum[s], t, c + STEP * s);
    }
}

/* Blocks of WARPS; every warp takes a token, and where there are few blocks further ones. */
template <class T, int PAIRS, int STEPS, int WARPS>
__global__ void __launch_bounds__(WARPS * 32) combine_kernel(const CombineArgs g) {
    const int warps = (int)gridDim.x * WARPS;
    if (g.broken && *g.broken)
        return;
    for (int t = (int)(blockIdx.x * WARPS + (threadIdx.x >> 5)); t < g.tokens; t += warps)
        combine_token<T, PAIRS, STEPS>(g, t);
}

template <class T, int WARPS>
void launch_on(const CombineArgs &g, unsigned blocks, cudaStream_t stream) {
    if (g.K <= 2)
        combine_kernel<T, 2, 4, WARPS><<<blocks, WARPS * 32, 0, stream>>>(g);
    else
        combine_kernel<T, 8, 1, WARPS><<<blocks, WARPS * 32, 0, stream>>>(g);
}

template <class T> void launch(const CombineArgs &g, cudaStream_t stream) {
    if (g.blocks)
        launch_on<T, FULL_WARPS>(g, (unsigned)g.blocks, stream);
    else
        launch_on<T, WARPS>(g, (unsigned)((g.tokens + WARPS - 1) / WARPS), stream);
}

} // namespace

cudaError_t combine(int dtype, const CombineArgs *args, cudaStream_t stream) {
    if (dtype == MOE_BF16)
        launch<__nv_bfloat16>(*args, stream);
    else
        launch<__half>(*args, stream);
    return cudaGetLastError();
}
