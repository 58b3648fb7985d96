/* The producer warpgroup: fills the ring of stages with bulk copies (one thread) and with gathered
 * rows (all 128 threads, cp.async). Both operands land in the 128-byte swizzle that wgmma reads:
 * 16-byte chunk c of row r lies at chunk c ^ (r % 8). */
#ifndef MOE_CUDA_HOPPER_PRODUCER_CUH
#define MOE_CUDA_HOPPER_PRODUCER_CUH

#include "hopper_tiles.cuh"

/* Bulk copies of one stage; they complete on `bar`. */
template <class Q>
__device__ __forceinline__ void bulk_load(const HopperArgs &g, const TileWalk<Q::ragged_k> &w,
                                          int k0, uint32_t stage, uint32_t bar) {
    uint32_t b = stage + A_BYTES;
    const int end = w.row0 + w.rows, n0 = w.n * Q::columns;
    /* B's columns past the last one hold anything, and what they give is not stored. */
    const uint32_t slabs = Q::act ? Q::b_slabs : (uint32_t)min(Q::columns, g.columns - n0) / 64;
    ptx::barrier_expect(bar, (Q::gathers ? 0 : A_BYTES) + slabs * SLAB_BYTES);
    if constexpr (!Q::gathers)
        ptx::tma_load(&g.a, bar, stage, k0, g.rows_cap - w.rows + w.m * HOPPER_BM, end);
    if constexpr (Q::act) { /* W1 as {d, n, 2E}: gate rows, then up rows */
        ptx::tma_load(&g.b, bar, b, k0, n0, 2 * w.e);
        ptx::tma_load(&g.b, bar, b + 2 * SLAB_BYTES, k0, n0, 2 * w.e + 1);
    } else {
#pragma unroll
        for (uint32_t j = 0; j < Q::b_slabs; j++, b += SLAB_BYTES) {
            const int column = n0 + 64 * (int)j;
            if (j >= slabs)
                continue;
            if constexpr (!Q::b_mn_major)
                ptx::tma_load(&g.b, bar, b, k0, column, w.e);
            else if constexpr (Q::ragged_k)
                ptx::tma_load(&g.b, bar, b, column, g.rows_cap - w.rows + k0, end);
            else
                ptx::tma_load(&g.b, bar, b, column, k0, w.e);
        }
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
struct RowGather {
    const char *columns; /* the thread's 16 bytes of row 0 of the source */
    int token[8];
    uint32_t row_bytes, valid; /* of the source; bit i: row i exists */

    __device__ __forceinline__ void start(const HopperArgs &g, int row0, int rows, int m0) {
        int t = (int)threadIdx.x;
        columns = static_cast<const char *>(g.gather) + (t & 7) * 16;
        row_bytes = (uint32_t)g.gather_width * 2;
        valid = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            int r = m0 + (t >> 3) + 16 * i;
            token[i] = r < rows ? __ldg(g.token + row0 + r) : 0;
            valid |= (uint32_t)(r < rows) << i;
        }
    }

    __device__ __forceinline__ void load(uint32_t a, int k0) const {
        int t = (int)threadIdx.x, r = t >> 3, c = t & 7;
        uint32_t dst = a + r * 128 + ((c ^ (r & 7)) << 4);
        const char *block = columns + 2 * k0;
#pragma unroll
        for (int i = 0; i < 8; i++)
            ptx::copy16_async(dst + i * 16 * 128, ptx::offset(block, token[i], row_bytes),
                              valid >> i & 1);
    }
};

/* Gathered rows as the MN-major A of a weight gradient: per block of K 64 rows of 16 chunks of 16
 * bytes, in two slabs of 64 columns. A half-warp copies rows r0 + 8 i of the block, a thread one
 * chunk of each; its lane i and lane i + 8 know the row's token. Tokens are looked up two blocks
 * ahead, addresses found before the stage is free: the copies are what a tile waits for. */
template <class T> struct ColumnGather {
    const char *columns;     /* the thread's 16 bytes of row 0 of the source */
    const int *tokens;       /* of the expert's rows, from r0 + 8 (lane % 8) on */
    uint32_t row_bytes, dst; /* of the source; the chunk's place in a stage */
    int rows, r0;            /* of the expert; the thread's first */
    int token[3];            /* of this block and the next two */
    bool exists;             /* the chunk: d may end inside a tile */
    const char *source[8];

    __device__ __forceinline__ int look_up(int k0) const {
        return k0 + r0 + 8 * ((int)threadIdx.x & 7) < rows ? __ldg(tokens + k0) : 0;
    }
    __device__ __forceinline__ void start(const HopperArgs &g, int row0, int expert_rows, int m0) {
        const int warp = (int)threadIdx.x >> 5, lane = (int)threadIdx.x & 31, c = lane & 15;
        exists = m0 + 8 * c < g.gather_width;
        columns = reinterpret_cast<const char *>(static_cast<const T *>(g.gather) +
                                                 (exists ? m0 + 8 * c : 0));
        r0 = 2 * warp + (lane >> 4);
        tokens = g.token + row0 + r0 + 8 * (lane & 7);
        row_bytes = (uint32_t)g.gather_width * 2;
        rows = expert_rows;
        dst = (c >> 3) * SLAB_BYTES + r0 * 128 + (((c & 7) ^ r0) << 4);
        token[1] = look_up(0);
        token[2] = look_up(HOPPER_BK);
    }
    /* Finds the rows of the block that starts at k0, the next one after the last. */
    __device__ __forceinline__ void aim(int k0) {
        token[0] = token[1];
        token[1] = token[2];
        token[2] = look_up(k0 + 2 * HOPPER_BK);
#pragma unroll
        for (int i = 0; i < 8; i++)
            source[i] = ptx::offset(columns, __shfl_sync(~0u, token[0], i, 16), row_bytes);
    }
    __device__ __forceinline__ void load(uint32_t a, int k0) const {
        if (k0 + HOPPER_BK <= rows) {
#pragma unroll
            for (int i = 0; i < 8; i++)
                ptx::copy16_async(a + dst + i * 1024, source[i], exists);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++)
                ptx::copy16_async(a + dst + i * 1024, source[i], exists && k0 + r0 + 8 * i < rows);
        }
    }
};

template <class T, class Q>
__device__ __forceinline__ void produce(const HopperArgs &g, uint32_t smem) {
    if (!Q::gathers && threadIdx.x >= 32)
        return;
    TileWalk<Q::ragged_k> w(g);
    Ring<Q> ring(smem);
    RowGather by_row;
    ColumnGather<T> by_column;
    while (w.next()) {
        const int k_blocks = w.k_blocks(), m0 = w.m * HOPPER_BM;
        if constexpr (Q::gathers && !Q::ragged_k)
            by_row.start(g, w.row0, w.rows, m0);
        if constexpr (Q::ragged_k)
            by_column.start(g, w.row0, w.rows, m0);
        for (int kb = 0; kb < k_blocks; kb++) {
            const uint32_t stage = ring.address();
            if constexpr (Q::ragged_k)
                by_column.aim(kb * HOPPER_BK);
            ptx::barrier_wait(ring.empty(), ring.phase ^ 1);
            if (threadIdx.x == 0)
                bulk_load<Q>(g, w, kb * HOPPER_BK, stage, ring.full());
            if constexpr (Q::gathers && !Q::ragged_k)
                by_row.load(stage, kb * HOPPER_BK);
            if constexpr (Q::ragged_k)
                by_column.load(stage, kb * HOPPER_BK);
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
