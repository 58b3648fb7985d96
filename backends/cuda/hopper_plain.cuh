/* The epilogue of a product alone: C = scale acc + bias, rounded, 64 columns a step. */
#ifndef MOE_CUDA_HOPPER_PLAIN_CUH
#define MOE_CUDA_HOPPER_PLAIN_CUH

#include "hopper_shared.cuh"

template <class T, class Q> struct PlainEpilogue {
    enum { STEPS = 4 };
    StoredLater<Q> tile;
    Packed c[STEPS];

    __device__ __forceinline__ PlainEpilogue(const HopperArgs &g, const Place &at, uint32_t smem,
                                             const Ring<Q> &)
        : tile(g, at, smem) {
    }
    __device__ __forceinline__ void begin(const Tile &t) {
        tile.begin(t);
    }
    __device__ __forceinline__ void round(const float (&acc)[128]) {
        const T *bias = Q::ragged_k ? nullptr : bias_of<T>(tile.g, tile.expert);
#pragma unroll
        for (int j = 0; j < STEPS; j++)
            pack_plain(tile.g, tile.at, bias, tile.scale, tile.column + 64 * j, acc + 32 * j, c[j]);
    }
    __device__ __forceinline__ void step(int j) {
        const int c0 = tile.column + 64 * j;
        if (c0 < tile.g.columns)
            store_plain<Q>(tile.g, tile.rows, tile.slabs, c0, c[j]);
    }
};

#endif
