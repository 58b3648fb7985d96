/* O and dX: every token gathers its experts' rows and sums them in fp32, in the order of its pairs.
 * A warp owns a token, or a slice of one: its pairs are looked up once and stay in L1 while the
 * warp walks the row in steps of 256 columns, with eight loads in flight: of eight pairs or, where
 * a token has but two, of four steps. Memory-bound: the rows are read once, the result is written
 * once. */
#include "element.cuh"
#include "kernels.h"
#include "rounds.h"

#include <algorithm>

namespace {

constexpr int WARPS = 8;
constexpr int STEP = ROUND_COLUMNS;

/* Warps that a multiprocessor runs at once: as many as leave no register to be spilled. */
constexpr int most_warps(int pairs, bool away) {
    return pairs == ROUND_PAIRS && !away ? ROUND_WARPS : FEW_WARPS;
}

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

/* Every `slices`-th piece of the token's row. */
template <class T, int PAIRS, int STEPS, bool AWAY>
__device__ __forceinline__ void combine_token(const CombineArgs &g, int t, int slice, int slices) {
    const int piece = STEP * STEPS;
    for (int c = slice * piece + ((int)threadIdx.x & 31) * 8; c < g.d; c += piece * slices) {
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

/* A warp takes a token or, of few tokens, a slice of one. Bounds on the warps of a multiprocessor
 * let loads stay in flight: unasked, the compiler saves registers down to 32, and each row waits
 * for the one before it. */
template <class T, int PAIRS, int STEPS, bool AWAY>
__global__ void __launch_bounds__(WARPS * 32, most_warps(PAIRS, AWAY) / WARPS)
    combine_kernel(const CombineArgs g, int slices) {
    const int warp = (int)(blockIdx.x * WARPS + (threadIdx.x >> 5)), t = warp / slices;
    if (AWAY && *g.broken)
        return;
    if (t < g.tokens)
        combine_token<T, PAIRS, STEPS, AWAY>(g, t, warp % slices, slices);
}

template <class T, int PAIRS, int STEPS>
cudaError_t launch_pieces(const CombineArgs &g, const Stream &stream) {
    const int pieces = (g.d + STEP * STEPS - 1) / (STEP * STEPS);
    const int slices = std::max(1, std::min(pieces, ROUNDS_FILLED / std::max(g.tokens, 1)));
    const LaunchShape shape = {(unsigned)((g.tokens * slices + WARPS - 1) / WARPS), WARPS * 32};
    return launch(stream, shape,
                  g.row_at ? combine_kernel<T, PAIRS, STEPS, true>
                           : combine_kernel<T, PAIRS, STEPS, false>,
                  g, slices);
}

template <class T> cudaError_t combine_of(const CombineArgs &g, const Stream &stream) {
    return g.K <= FEW_PAIRS ? launch_pieces<T, FEW_PAIRS, FEW_STEPS>(g, stream)
                            : launch_pieces<T, ROUND_PAIRS, ROUND_STEPS>(g, stream);
}

} // namespace

cudaError_t combine(int dtype, const CombineArgs *args, const Stream &stream) {
    return dtype == MOE_BF16 ? combine_of<__nv_bfloat16>(*args, stream)
                             : combine_of<__half>(*args, stream);
}
