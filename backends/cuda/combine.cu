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

/* PAIRS of the token's pairs at a time, at columns c, c + 256 ... AWAY: rows do not lie side by
 * side, but where row_at says. All is looked up without a branch, from the first pair where there
 * is none: a load behind a branch waits for the one before it. */
template <class T, int PAIRS, int STEPS, bool AWAY>
__device__ __forceinline__ void add_pairs(const CombineArgs &g, float (&sum)[STEPS][8], int t,
                                          int c) {
    const T *rows = static_cast<const T *>(g.rows), *identity = static_cast<const T *>(g.identity);
    const int real = __ldg(g.offsets + g.E), end = __ldg(g.token_offsets + t + 1);
    for (int first = __ldg(g.token_offsets + t); first < end; first += PAIRS) {
        uint4 v[PAIRS][STEPS];
        const T *row[PAIRS];
        float w[PAIRS];
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            const bool more = first + i < end;
            const int found = __ldg(g.pair_of_token + (more ? first + i : first));
            const bool exists = more && found >= 0, is_real = found < real;
            const int pair = max(found, 0);
            const float weight = __ldg(g.weight + pair);
            const T *made =
                AWAY ? static_cast<const T *>(g.row_at[pair]) : rows + (int64_t)pair * g.d;
            row[i] = !exists ? nullptr : is_real ? made : identity + (int64_t)t * g.d;
            w[i] = !exists ? 0.f : is_real && !g.weigh_rows ? 1.f : weight;
        }
#pragma unroll
        for (int i = 0; i < PAIRS; i++)
#pragma unroll
            for (int s = 0; s < STEPS; s++)
                v[i][s] = row[i] && c + STEP * s < g.d
                              ? __ldg(reinterpret_cast<const uint4 *>(row[i] + c + STEP * s))
                              : make_uint4(0, 0, 0, 0);
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

template <class T, int PAIRS, int STEPS, bool AWAY>
__device__ __forceinline__ void combine_token(const CombineArgs &g, int t) {
    for (int c = ((int)threadIdx.x & 31) * 8; c < g.d; c += STEP * STEPS) {
        float sum[STEPS][8] = {};
#pragma unroll
        for (int s = 0; s < STEPS; s++)
            if (g.start && c + STEP * s < g.d)
                for (int i = 0; i < 8; i++)
                    sum[s][i] = g.start[(int64_t)t * g.d + c + STEP * s + i];
        add_pairs<T, PAIRS, STEPS, AWAY>(g, sum, t, c);
#pragma unroll
        for (int s = 0; s < STEPS; s++)
            if (c + STEP * s < g.d)
                finish<T>(g, sum[s], t, c + STEP * s);
    }
}

/* Blocks of WARPS; every warp takes a token, and where there are few blocks further ones. Bounds of
 * 24 warps a multiprocessor let loads stay in flight: unasked, the compiler saves registers down to
 * 32, and each row waits for the one before it. */
template <class T, int PAIRS, int STEPS, int WARPS, bool AWAY>
__global__ void __launch_bounds__(WARPS * 32, 24 / WARPS) combine_kernel(const CombineArgs g) {
    const int warps = (int)gridDim.x * WARPS;
    if (AWAY && *g.broken)
        return;
    for (int t = (int)(blockIdx.x * WARPS + (threadIdx.x >> 5)); t < g.tokens; t += warps)
        combine_token<T, PAIRS, STEPS, AWAY>(g, t);
}

template <class T, int WARPS, bool AWAY>
cudaError_t launch_on(const CombineArgs &g, unsigned blocks, const Stream &stream) {
    const LaunchShape shape = {blocks, WARPS * 32};
    return g.K <= 2 ? launch(stream, shape, combine_kernel<T, 2, 4, WARPS, AWAY>, g)
                    : launch(stream, shape, combine_kernel<T, 8, 1, WARPS, AWAY>, g);
}

template <class T> cudaError_t combine_of(const CombineArgs &g, const Stream &stream) {
    const unsigned most = (unsigned)((g.tokens + WARPS - 1) / WARPS);
    if (g.blocks)
        return launch_on<T, FULL_WARPS, true>(g, (unsigned)g.blocks, stream);
    return g.row_at ? launch_on<T, WARPS, true>(g, most, stream)
                    : launch_on<T, WARPS, false>(g, most, stream);
}

} // namespace

cudaError_t combine(int dtype, const CombineArgs *args, const Stream &stream) {
    return dtype == MOE_BF16 ? combine_of<__nv_bfloat16>(*args, stream)
                             : combine_of<__half>(*args, stream);
}
