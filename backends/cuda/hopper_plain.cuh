/* The epilogue of a product alone: C = scale acc + bias, rounded, 64 columns a step. */
#ifndef MOE_CUDA_HOPPER_PLAIN_CUH
#define MOE_CUDA_HOPPER_PLAIN_CUH

#include "hopper_shared.cuh"

template <class T, class Q> struct PlainEpilogue {
    enum { STEPS = 4 };
    const HopperArgs &g;
    const Place &at;
    Slabs<Q::slabs> slabs;
    RowBlock<Q::ragged_k> rows;
    int column, expert; /* the tile's first column */
    float scale[2];
    Packed c[STEPS];

    __device__ __forceinline__ PlainEpilogue(const HopperArgs &args, const Place &place,
                                             uint32_t smem, const Ring<Q> &)
        : g(args), at(place), slabs(place, smem + Q::slabs_at), column(args.columns) {
    }
    __device__ __forceinline__ void begin(const Tile &t) {
        rows = RowBlock<Q::ragged_k>(g, t, at.wg);
        column = t.n * Q::columns;
        expert = t.e;
        row_factors(t, at, t.m * HOPPER_BM + 64 * at.wg, Q::op == HOPPER_UP ? g.row_scale : nullptr,
                    scale);
    }
    __device__ __forceinline__ void round(const float (&acc)[128]) {
        const T *bias = Q::ragged_k ? nullptr : bias_of<T>(g, expert);
#pragma unroll
        for (int j = 0; j < STEPS; j++)
            pack_plain(g, at, bias, scale, column + 64 * j, acc + 32 * j, c[j]);
    }
    __device__ __forceinline__ void step(int j) {
        if (column + 64 * j < g.columns)
            store_plain<Q>(g, rows, slabs, column + 64 * j, c[j]);
    }
};

#endif
