/* What a consumer warpgroup does with its accumulators: round, pass through slabs of shared memory
 * (64 rows x 64 columns, 128-byte swizzle) and leave by bulk stores. */
#ifndef MOE_CUDA_HOPPER_EPILOGUE_CUH
#define MOE_CUDA_HOPPER_EPILOGUE_CUH

#include "hopper_tiles.cuh"

/* A consumer thread's place: the two rows of each block of 64 that it holds accumulators of. */
struct Place {
    uint32_t fragment; /* offset of this lane's matrix row for ldmatrix and stmatrix */
    int wg, t;         /* warpgroup 0 or 1, thread in it */
    __device__ __forceinline__ Place() {
        wg = ((int)threadIdx.x >> 7) - 1;
        t = (int)threadIdx.x & 127;
        fragment = ((t >> 5) * 16 + (t >> 3 & 1) * 8 + (t & 7)) * 128;
    }
    /* Lane address of the 16 x 16 block of column chunks 2p and 2p + 1. */
    __device__ __forceinline__ uint32_t block(uint32_t slab, int p) const {
        int chunk = 2 * p + (t >> 4 & 1);
        return slab + fragment + ((chunk ^ (t & 7)) << 4);
    }
    /* The same block's place in a transposed slab: rows are its columns. */
    __device__ __forceinline__ uint32_t block_transposed(uint32_t slab, int p) const {
        int row = (2 * p + (t >> 4 & 1)) * 8 + (t & 7), chunk = 2 * (t >> 5) + (t >> 3 & 1);
        return slab + row * 128 + ((chunk ^ (t & 7)) << 4);
    }
    __device__ __forceinline__ int row(int half) const { /* within a block of 64 */
        return (t >> 5) * 16 + (t >> 2 & 7) + 8 * half;
    }
    __device__ __forceinline__ int column() const { /* of an 8-column block */
        return 2 * (t & 3);
    }
    __device__ __forceinline__ void sync() const {
        ptx::named_barrier(1 + wg, HOPPER_WARPGROUP);
    }
};

/* Packed elements of one slab: word 2i + half is columns 8i + column() of row(half). */
using Packed = uint32_t[16];

template <bool transposed>
__device__ __forceinline__ void slab_write(const Place &at, uint32_t slab, const Packed &v) {
#pragma unroll
    for (int p = 0; p < 4; p++) {
        uint32_t r[4] = {v[4 * p], v[4 * p + 1], v[4 * p + 2], v[4 * p + 3]};
        if (transposed)
            ptx::stmatrix4_trans(at.block_transposed(slab, p), r);
        else
            ptx::stmatrix4(at.block(slab, p), r);
    }
}

/* Slabs used in turn: one is filled while stores still read the others. Each has a warp of its own
 * to ask for its stores, so that none is late for the next slab. */
template <uint32_t count> struct Slabs {
    const Place &at;
    uint32_t first, turn = 0; /* shared-memory address of the first slab; which comes next */
    __device__ __forceinline__ Slabs(const Place &place, uint32_t slabs)
        : at(place), first(slabs + at.wg * count * SLAB_BYTES) {
    }
    template <bool transposed>
    __device__ __forceinline__ void store(const Packed &v, const CUtensorMap *map, bool exists,
                                          int c0, int c1, int c2) {
        const uint32_t slab = first + turn * SLAB_BYTES;
        const bool stores = at.t == 32 * (int)turn;
        turn = turn + 1 == count ? 0 : turn + 1;
        if (stores)
            ptx::tma_store_wait_read<0>();
        at.sync();
        slab_write<transposed>(at, slab, v);
        ptx::fence_async_proxy();
        at.sync();
        if (stores && exists) {
            ptx::tma_store(map, slab, c0, c1, c2);
            ptx::tma_store_commit();
        }
    }
};

/* Upper or lower 64 rows of a tile: where they start in their expert, and in the output maps. */
template <bool ragged_k> struct RowBlock {
    int r0, c1, c2;
    bool exists; /* not wholly past the expert's end */
    RowBlock() = default;
    __device__ __forceinline__ RowBlock(const HopperArgs &g, const Tile &w, int half) {
        r0 = w.m * HOPPER_BM + 64 * half;
        c1 = ragged_k ? r0 : g.rows_cap - w.rows + r0;
        c2 = ragged_k ? w.e : w.row0 + w.rows;
        exists = ragged_k || r0 < w.rows;
    }
};

template <class T>
__device__ __forceinline__ float2 bias_pair(const T *bias, int col, int columns) {
    if (!bias || col >= columns)
        return make_float2(0.f, 0.f);
    return Element<T>::unpack(*reinterpret_cast<const uint32_t *>(bias + col));
}

/* One factor for each of the thread's two rows; 1 without factors and past the expert's end. */
__device__ __forceinline__ void row_factors(const Tile &w, const Place &at, int r0,
                                            const float *factor, float (&ret)[2]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int r = r0 + at.row(half);
        ret[half] = factor && r < w.rows ? __ldg(factor + w.row0 + r) : 1.f;
    }
}

/* What must be known of a tile to store it later, slab by slab. Before the first tile it has no
 * columns. */
template <class Q> struct StoredLater {
    const HopperArgs &g;
    const Place &at;
    Slabs<Q::slabs> slabs;
    RowBlock<Q::ragged_k> rows;
    int column, expert; /* the tile's first column */
    float scale[2];     /* of the thread's rows */

    __device__ __forceinline__ StoredLater(const HopperArgs &args, const Place &place,
                                           uint32_t smem)
        : g(args), at(place), slabs(place, smem + Q::slabs_at), column(args.columns) {
    }
    __device__ __forceinline__ void begin(const Tile &t) {
        rows = RowBlock<Q::ragged_k>(g, t, at.wg);
        column = t.n * Q::columns;
        expert = t.e;
        row_factors(t, at, t.m * HOPPER_BM + 64 * at.wg,
                    Q::act || Q::op == HOPPER_UP ? g.row_scale : nullptr, scale);
    }
};

template <class T> __device__ __forceinline__ const T *bias_of(const HopperArgs &g, int e) {
    return g.bias ? static_cast<const T *>(g.bias) + (int64_t)e * g.columns : nullptr;
}

/* C = scale[row] acc + bias[column] of the 64 columns from c0 on: x are their 32 accumulators. */
template <class T>
__device__ __forceinline__ void pack_plain(const HopperArgs &g, const Place &at, const T *bias,
                                           const float (&scale)[2], int c0, const float *x,
                                           Packed &v) {
#pragma unroll
    for (int i = 0; i < 8; i++, x += 4) {
        const float2 b = bias_pair(bias, c0 + 8 * i + at.column(), g.columns);
        v[2 * i] = Element<T>::pack(x[0] * scale[0] + b.x, x[1] * scale[0] + b.y);
        v[2 * i + 1] = Element<T>::pack(x[2] * scale[1] + b.x, x[3] * scale[1] + b.y);
    }
}

template <class Q>
__device__ __forceinline__ void store_plain(const HopperArgs &g, const RowBlock<Q::ragged_k> &rows,
                                            Slabs<Q::slabs> &slabs, int c0, const Packed &v) {
    if constexpr (Q::transposed)
        slabs.template store<true>(v, &g.out[0], rows.exists, rows.c1, c0, rows.c2);
    else
        slabs.template store<false>(v, &g.out[0], rows.exists, c0, rows.c1, rows.c2);
}

#endif
