/* What a consumer warpgroup does with its 64 x 256 accumulators: round, pass through slabs of
 * shared memory (64 rows x 64 columns, 128-byte swizzle) and leave by bulk stores. */
#ifndef MOE_CUDA_HOPPER_EPILOGUE_CUH
#define MOE_CUDA_HOPPER_EPILOGUE_CUH

#include "hopper_tiles.cuh"

/* A consumer thread's place: its warpgroup's slabs, and the two rows it holds accumulators of. */
struct Place {
    uint32_t slabs;    /* shared-memory address of the warpgroup's first slab */
    uint32_t fragment; /* offset of this lane's matrix row for ldmatrix and stmatrix */
    int wg, t;         /* warpgroup 0 or 1, thread in it */
    __device__ __forceinline__ Place(uint32_t slabs0, int n_slabs) {
        wg = ((int)threadIdx.x >> 7) - 1;
        t = (int)threadIdx.x & 127;
        slabs = slabs0 + wg * n_slabs * SLAB_BYTES;
        fragment = ((t >> 5) * 16 + (t >> 3 & 1) * 8 + (t & 7)) * 128;
    }
    /* Lane address of the 16 x 16 block of column chunks 2p and 2p + 1. */
    __device__ __forceinline__ uint32_t block(uint32_t slab, int p) const {
        int chunk = 2 * p + (t >> 4 & 1);
        return slab + fragment + ((chunk ^ (t & 7)) << 4);
    }
    __device__ __forceinline__ int row(int half) const { /* within the warpgroup's 64 */
        return (t >> 5) * 16 + (t >> 2 & 7) + 8 * half;
    }
    __device__ __forceinline__ int column() const { /* of an 8-column block */
        return 2 * (t & 3);
    }
    __device__ __forceinline__ void sync() const {
        ptx::named_barrier(1 + wg, 128);
    }
};

/* Packed elements of one slab: word 2i + half is columns 8i + column() of row(half). */
using Packed = uint32_t[16];

__device__ __forceinline__ void slab_write(const Place &at, uint32_t slab, const Packed &v) {
#pragma unroll
    for (int p = 0; p < 4; p++) {
        uint32_t r[4] = {v[4 * p], v[4 * p + 1], v[4 * p + 2], v[4 * p + 3]};
        ptx::stmatrix4(at.block(slab, p), r);
    }
}

/* Two slabs used in turn: one is filled while the other's store still reads it. */
struct SlabPair {
    const Place &at;
    uint32_t turn = 0;
    __device__ __forceinline__ explicit SlabPair(const Place &place) : at(place) {
    }
    __device__ __forceinline__ void store(const Packed &v, const CUtensorMap *map, int c0, int c1,
                                          int c2) {
        uint32_t slab = at.slabs + turn * SLAB_BYTES;
        turn ^= 1;
        if (at.t == 0)
            ptx::tma_store_wait_read<1>();
        at.sync();
        slab_write(at, slab, v);
        ptx::fence_async_proxy();
        at.sync();
        if (at.t == 0) {
            ptx::tma_store(map, slab, c0, c1, c2);
            ptx::tma_store_commit();
        }
    }
};

/* Coordinates of the warpgroup's 64 rows of a tile in the output maps. */
template <class Walk, bool ragged_k> struct OutRows {
    int c1, c2;
    __device__ __forceinline__ OutRows(const HopperArgs &g, const Walk &w, int wg) {
        int r = w.m * HOPPER_BM + 64 * wg;
        c1 = ragged_k ? r : g.rows_cap - w.rows + r;
        c2 = ragged_k ? w.e : w.row0 + w.rows;
    }
};

template <class T>
__device__ __forceinline__ float2 bias_pair(const T *bias, int col, int columns) {
    if (!bias || col >= columns)
        return make_float2(0.f, 0.f);
    return Element<T>::unpack(*reinterpret_cast<const uint32_t *>(bias + col));
}

/* acc = acc * scale[row] + bias[column], for H. */
template <class T, class Walk>
__device__ __forceinline__ void row_scales(const HopperArgs &g, const Walk &w, const Place &at,
                                           const float *scale, float (&ret)[2]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int r = w.m * HOPPER_BM + 64 * at.wg + at.row(half);
        ret[half] = scale && r < w.rows ? __ldg(scale + w.row0 + r) : 1.f;
    }
}

template <class T, bool ragged_k>
__device__ __forceinline__ void epilogue_plain(const HopperArgs &g, const TileWalk<ragged_k> &w,
                                               const Place &at, SlabPair &pair,
                                               const float (&acc)[128]) {
    const OutRows<TileWalk<ragged_k>, ragged_k> rows(g, w, at.wg);
    const T *bias = g.bias ? static_cast<const T *>(g.bias) + (int64_t)w.e * g.columns : nullptr;
    float scale[2] = {1.f, 1.f};
    if (g.row_scale)
        row_scales<T>(g, w, at, g.row_scale, scale);
#pragma unroll
    for (int j = 0; j < 4; j++) {
        int c0 = w.n * HOPPER_BN + 64 * j;
        if (c0 >= g.columns)
            continue;
        Packed v;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float *x = acc + (j * 8 + i) * 4;
            float2 b = bias_pair(bias, c0 + 8 * i + at.column(), g.columns);
            v[2 * i] = Element<T>::pack(x[0] * scale[0] + b.x, x[1] * scale[0] + b.y);
            v[2 * i + 1] = Element<T>::pack(x[2] * scale[1] + b.x, x[3] * scale[1] + b.y);
        }
        pair.store(v, &g.out[0], c0, rows.c1, rows.c2);
    }
}

/* Columns 0..127 of the tile are gates, 128..255 the same columns' ups. A is computed from the
 * stored H, as the backward pass will. */
template <class T, class Glu>
__device__ __forceinline__ void epilogue_act(const HopperArgs &g, const TileWalk<false> &w,
                                             const Place &at, SlabPair &pair,
                                             const float (&acc)[128]) {
    const OutRows<TileWalk<false>, false> rows(g, w, at.wg);
    const Glu glu{g.act};
    const int n = g.columns;
    const T *bias = g.bias ? static_cast<const T *>(g.bias) + (int64_t)w.e * 2 * n : nullptr;
    float scale[2];
    row_scales<T>(g, w, at, g.row_scale, scale);
#pragma unroll
    for (int j = 0; j < 2; j++) {
        int c0 = w.n * 128 + 64 * j;
        if (c0 >= n)
            continue;
        Packed gate, up, a;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            int col = c0 + 8 * i + at.column();
            float2 bg = bias_pair(bias, col, n), bu = bias_pair(bias ? bias + n : nullptr, col, n);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const float *xg = acc + (j * 8 + i) * 4 + 2 * half, *xu = xg + 64;
                uint32_t hg =
                    Element<T>::pack(xg[0] * scale[half] + bg.x, xg[1] * scale[half] + bg.y);
                uint32_t hu =
                    Element<T>::pack(xu[0] * scale[half] + bu.x, xu[1] * scale[half] + bu.y);
                float2 vg = Element<T>::unpack(hg), vu = Element<T>::unpack(hu);
                gate[2 * i + half] = hg;
                up[2 * i + half] = hu;
                a[2 * i + half] = Element<T>::pack(glu.value(vg.x, vu.x), glu.value(vg.y, vu.y));
            }
        }
        pair.store(gate, &g.out[0], c0, rows.c1, rows.c2);
        pair.store(up, &g.out[1], c0, rows.c1, rows.c2);
        pair.store(a, &g.out[2], c0, rows.c1, rows.c2);
    }
}

#endif
