/* The producer warpgroup: fills the ring of stages with bulk copies (one thread) and with gathered
 * rows (all 128 threads, cp.async). Both operands land in the 128-byte swizzle that wgmma reads:
 * 16-byte chunk c of row r lies at chunk c ^ (r % 8). */
#ifndef MOE_CUDA_HOPPER_PRODUCER_CUH
#define MOE_CUDA_HOPPER_PRODUCER_CUH

#include "hopper_tiles.cuh"

/* Bulk copies of one stage; they complete on `bar`. */
template <HopperOp op>
__device__ __forceinline__ void bulk_load(const HopperArgs &g,
                                          const TileWalk<Traits<op>::ragged_k> &w, int k0,
                                          uint32_t stage, uint32_t bar) {
    using Q = Traits<op>;
    const uint32_t b = stage + A_BYTES;
    const int end = w.row0 + w.rows, n0 = w.n * hopper_tile_columns(op);
    ptx::barrier_expect(bar, (Q::gathers ? 0 : A_BYTES) + B_BYTES);
    if constexpr (!Q::gathers)
        ptx::tma_load(&g.a, bar, stage, k0, g.rows_cap - w.rows + w.m * HOPPER_BM, end);
    if constexpr (Q::act) { /* W1 as {d, n, 2E}: gate rows, then up rows */
        ptx::tma_load(&g.b, bar, b, k0, n0, 2 * w.e);
        ptx::tma_load(&g.b, bar, b + B_BYTES / 2, k0, n0, 2 * w.e + 1);
    } else if constexpr (!Q::b_mn_major) {
        ptx::tma_load(&g.b, bar, b, k0, n0, w.e);
        ptx::tma_load(&g.b, bar, b + B_BYTES / 2, k0, n0 + HOPPER_BN / 2, w.e);
    } else {
        const int row = Q::ragged_k ? g.rows_cap - w.rows + k0 : k0;
        for (int j = 0; j < HOPPER_BN / 64; j++) /* past the last column: any columns, not stored */
            ptx::tma_load(&g.b, bar, b + j * SLAB_BYTES, min(n0 + 64 * j, g.columns - 64), row,
                          Q::ragged_k ? end : w.e);
    }
}

/* Columns 64 j ... of the tile's H. */
__device__ __forceinline__ void load_hidden(const HopperArgs &g, const TileWalk<false> &w, int j,
                                            uint32_t stage, uint32_t bar) {
    const int c0 = w.n * HOPPER_BN + 64 * j, c1 = g.rows_cap - w.rows + w.m * HOPPER_BM;
    ptx::barrier_expect(bar, 4 * SLAB_BYTES);
    ptx::tma_load(&g.in[0], bar, stage, c0, c1, w.row0 + w.rows);
    ptx::tma_load(&g.in[1], bar, stage + 2 * SLAB_BYTES, c0, c1, w.row0 + w.rows);
}

/* Gathered rows of a K-major A tile: 128 rows of 8 chunks; a thread copies one chunk of 8 rows. */
template <class T> struct RowGather {
    const uint4 *source[8];
    uint32_t valid; /* bit i: row i exists */

    __device__ __forceinline__ void start(const HopperArgs &g, int row0, int rows, int m0) {
        int t = (int)threadIdx.x;
        valid = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            int r = m0 + (t >> 3) + 16 * i;
            int token = r < rows ? __ldg(g.token + row0 + r) : 0;
            valid |= (uint32_t)(r < rows) << i;
            source[i] = reinterpret_cast<const uint4 *>(static_cast<const T *>(g.gather) +
                                                        (int64_t)token * g.gather_width) +
                        (t & 7);
        }
    }

    __device__ __forceinline__ void load(uint32_t a, int k0) const {
        int t = (int)threadIdx.x, r = t >> 3, c = t & 7;
        uint32_t dst = a + r * 128 + ((c ^ (r & 7)) << 4);
#pragma unroll
        for (int i = 0; i < 8; i++)
            ptx::copy16_async(dst + i * 16 * 128, source[i] + k0 / 8, valid >> i & 1);
    }
};

/* Gathered rows as the MN-major A of a weight gradient: per block of K 64 rows of 16 chunks of 16
 * bytes, in two slabs of 64 columns; a warp copies 16 of the rows. Tokens are looked up for two
 * blocks at a time, one such pair ahead: lane 16 b + i knows the i-th row of block b. */
template <class T> struct ColumnGather {
    int token, next_token;

    static __device__ __forceinline__ int look_up(const HopperArgs &g, int row0, int rows, int r) {
        return r < rows ? __ldg(g.token + row0 + r) : -1;
    }
    static __device__ __forceinline__ int own_row() {
        const int warp = (int)threadIdx.x >> 5, lane = (int)threadIdx.x & 31, i = lane & 15;
        return (lane >> 4) * HOPPER_BK + 2 * warp + (i & 1) + 8 * (i >> 1);
    }
    __device__ __forceinline__ void start(const HopperArgs &g, int row0, int rows) {
        next_token = look_up(g, row0, rows, own_row());
    }
    /* Before the pair of blocks that starts at k0. */
    __device__ __forceinline__ void turn(const HopperArgs &g, int row0, int rows, int k0) {
        token = next_token;
        next_token = look_up(g, row0, rows, k0 + 2 * HOPPER_BK + own_row());
    }
    /* Copies columns col0 ... of the pair's first or second block. */
    __device__ __forceinline__ void load(const HopperArgs &g, uint32_t a, int col0,
                                         int second) const {
        const int warp = (int)threadIdx.x >> 5, lane = (int)threadIdx.x & 31, c = lane & 15;
        const int r0 = 2 * warp + (lane >> 4), col = col0 + 8 * c;
        const T *source = static_cast<const T *>(g.gather) + col;
        const uint32_t dst = a + (c >> 3) * SLAB_BYTES + r0 * 128 + (((c & 7) ^ r0) << 4);
#pragma unroll
        for (int i = 0; i < 8; i++) { /* row r0 + 8 i */
            int from = __shfl_sync(~0u, token, 16 * second + 2 * i + (lane >> 4));
            bool valid = from >= 0 && col < g.gather_width;
            ptx::copy16_async(dst + i * 1024,
                              valid ? source + (int64_t)from * g.gather_width
                                    : static_cast<const T *>(g.gather),
                              valid);
        }
    }
};

template <class T, HopperOp op>
__device__ __forceinline__ void produce(const HopperArgs &g, uint32_t smem) {
    using Q = Traits<op>;
    if (!Q::gathers && threadIdx.x != 0)
        return;
    TileWalk<Q::ragged_k> w(g);
    Ring ring(smem);
    RowGather<T> by_row;
    ColumnGather<T> by_column;
    while (w.next()) {
        const int k_blocks = w.k_blocks(), m0 = w.m * HOPPER_BM;
        if constexpr (Q::gathers && !Q::ragged_k)
            by_row.start(g, w.row0, w.rows, m0);
        if constexpr (Q::ragged_k)
            by_column.start(g, w.row0, w.rows);
        for (int kb = 0; kb < k_blocks; kb++) {
            const uint32_t stage = ring.address();
            ptx::barrier_wait(ring.empty(), ring.phase ^ 1);
            if (threadIdx.x == 0)
                bulk_load<op>(g, w, kb * HOPPER_BK, stage, ring.full());
            if constexpr (Q::gathers && !Q::ragged_k)
                by_row.load(stage, kb * HOPPER_BK);
            if constexpr (Q::ragged_k) {
                if (kb % 2 == 0)
                    by_column.turn(g, w.row0, w.rows, kb * HOPPER_BK);
                by_column.load(g, stage, m0, kb % 2);
            }
            if constexpr (Q::gathers)
                ptx::copy_arrive(ring.full());
            ring.advance();
        }
        if constexpr (Q::dact)
            for (int j = 0; j < hidden_stages(g, w); j++) {
                ptx::barrier_wait(ring.empty(), ring.phase ^ 1);
                if (threadIdx.x == 0)
                    load_hidden(g, w, j, ring.address(), ring.full());
                ptx::copy_arrive(ring.full());
                ring.advance();
            }
    }
    if constexpr (Q::gathers)
        ptx::copy_wait_all();
}

#endif
