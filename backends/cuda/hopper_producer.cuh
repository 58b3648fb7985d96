/* The producer warpgroup: fills the ring of stages with bulk copies (one thread) and with gathered
 * rows (all 128 threads, cp.async). Both operands land in the 128-byte swizzle that wgmma reads:
 * 16-byte chunk c of row r lies at chunk c ^ (r % 8). */
#ifndef MOE_CUDA_HOPPER_PRODUCER_CUH
#define MOE_CUDA_HOPPER_PRODUCER_CUH

#include "hopper_tiles.cuh"

/* Bulk copies of one stage; they complete on `bar`. As few as can be: one thread asks for them, at
 * some 90 clocks each. What lies past B's last column arrives as zeros. */
template <class Q>
__device__ __forceinline__ void bulk_load(const HopperArgs &g, const Tile &w, int k0,
                                          uint32_t stage, uint32_t bar) {
    const uint32_t b = stage + A_BYTES;
    const int end = w.row0 + w.rows, n0 = w.n * Q::columns;
    ptx::barrier_expect(bar, (Q::gathers ? 0 : A_BYTES) + Q::b_slabs * SLAB_BYTES);
    if constexpr (!Q::gathers)
        ptx::tma_load(&g.a, bar, stage, k0, g.rows_cap - w.rows + w.m * HOPPER_BM, end);
    if constexpr (Q::act) { /* W1 as {d, n, 2E}: gate rows, then up rows */
        ptx::tma_load(&g.b, bar, b, k0, n0, 2 * w.e);
        ptx::tma_load(&g.b, bar, b + Q::columns * 128, k0, n0, 2 * w.e + 1);
    } else if constexpr (!Q::b_mn_major) {
        ptx::tma_load(&g.b, bar, b, k0, n0, w.e);
    } else if constexpr (Q::ragged_k) {
        ptx::tma_load4(&g.b, bar, b, 0, g.rows_cap - w.rows + k0, end, n0 / 64);
    } else {
        ptx::tma_load4(&g.b, bar, b, 0, k0, w.e, n0 / 64);
    }
}

/* Columns 64 j ... of the tile's H. */
__device__ __forceinline__ void load_hidden(const HopperArgs &g, const Tile &w, int j,
                                            uint32_t stage, uint32_t bar) {
    const int c0 = w.n * HOPPER_BN + 64 * j, c1 = g.rows_cap - w.rows + w.m * HOPPER_BM;
    ptx::barrier_expect(bar, 4 * SLAB_BYTES);
    ptx::tma_load(&g.in[0], bar, stage, c0, c1, w.row0 + w.rows);
    ptx::tma_load(&g.in[1], bar, stage + 2 * SLAB_BYTES, c0, c1, w.row0 + w.rows);
}

/* Gathered rows of a K-major A tile: 128 rows of 8 chunks; a thread copies one chunk of 8 rows,
 * zeros for rows past the expert's end. Addresses are found before the stage is free. */
struct RowGather {
    const char *columns;     /* the thread's 16 bytes of row 0 of the source */
    uint32_t row_bytes, dst; /* of the source; the first chunk's place in a stage */
    int rows;                /* of the tile that exist from the thread's first row on */
    const char *source[8];

    __device__ __forceinline__ explicit RowGather(const HopperArgs &g) {
        const int r = (int)threadIdx.x >> 3, c = (int)threadIdx.x & 7;
        columns = static_cast<const char *>(g.gather) + c * 16;
        row_bytes = (uint32_t)g.gather_width * 2;
        dst = r * 128 + ((c ^ (r & 7)) << 4);
    }
    __device__ __forceinline__ void start(const HopperArgs &g, const Tile &t) {
        const int r = t.m * HOPPER_BM + ((int)threadIdx.x >> 3);
        rows = t.rows - r;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int token = 16 * i < rows ? __ldg(g.token + t.row0 + r + 16 * i) : 0;
            source[i] = ptx::offset(columns, token, row_bytes);
        }
    }
    __device__ __forceinline__ void load(uint32_t a, bool whole_tile) const {
        if (whole_tile) {
#pragma unroll
            for (int i = 0; i < 8; i++)
                ptx::copy16_async(a + dst + i * 16 * 128, source[i]);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++)
                ptx::copy16_async(a + dst + i * 16 * 128, source[i], 16 * i < rows);
        }
    }
    __device__ __forceinline__ void advance() { /* to the next block of K */
#pragma unroll
        for (int i = 0; i < 8; i++)
            source[i] += HOPPER_BK * 2;
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
    const char *source[8];

    __device__ __forceinline__ int look_up(int k0) const {
        return k0 + r0 + 8 * ((int)threadIdx.x & 7) < rows ? __ldg(tokens + k0) : 0;
    }
    __device__ __forceinline__ void start(const HopperArgs &g, const Tile &t) {
        const int warp = (int)threadIdx.x >> 5, lane = (int)threadIdx.x & 31, c = lane & 15;
        const int column = t.m * HOPPER_BM + 8 * c; /* past d: any will do, C ends there too */
        columns = reinterpret_cast<const char *>(static_cast<const T *>(g.gather) +
                                                 (column < g.gather_width ? column : 0));
        r0 = 2 * warp + (lane >> 4);
        tokens = g.token + t.row0 + r0 + 8 * (lane & 7);
        row_bytes = (uint32_t)g.gather_width * 2;
        rows = t.rows;
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
                ptx::copy16_async(a + dst + i * 1024, source[i]);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++)
                ptx::copy16_async(a + dst + i * 1024, source[i], k0 + r0 + 8 * i < rows);
        }
    }
};

/* An expert without rows: its gradients are zero, but the consumers want to know of the tile. */
template <class Q> __device__ __forceinline__ void announce_empty(const Tile &tile, Ring<Q> &ring) {
    ptx::barrier_wait(ring.empty(), ring.phase ^ 1);
    if (threadIdx.x == 0) {
        ring.announce(tile);
        ptx::barrier_arrive(ring.full());
    }
    ptx::barrier_arrive(ring.full());
    ring.advance();
}

/* The next tile is looked up between the first copies of this one; not by weight gradients, whose
 * tiles are long and whose copies wait for every instruction. */
template <class T, class Q>
__device__ __forceinline__ void produce(const HopperArgs &g, uint32_t smem) {
    if (!Q::gathers && threadIdx.x >= 32)
        return;
    constexpr bool by_rows = Q::gathers && !Q::ragged_k;
    TileWalk<Q::ragged_k> walk(g);
    Ring<Q> ring(smem);
    RowGather row_gather(g);
    ColumnGather<T> column_gather;
    while (walk.more) {
        const Tile tile = walk.tile;
        const int blocks = k_blocks<Q::ragged_k>(g, tile);
        if constexpr (by_rows)
            row_gather.start(g, tile);
        if constexpr (Q::ragged_k) {
            column_gather.start(g, tile);
            if (blocks == 0)
                announce_empty(tile, ring);
        }
        for (int kb = 0; kb < blocks; kb++) {
            const uint32_t stage = ring.address();
            if constexpr (Q::ragged_k)
                column_gather.aim(kb * HOPPER_BK);
            ptx::barrier_wait(ring.empty(), ring.phase ^ 1);
            if (threadIdx.x == 0) {
                if (kb == 0)
                    ring.announce(tile);
                bulk_load<Q>(g, tile, kb * HOPPER_BK, stage, ring.full());
            }
            if constexpr (by_rows)
                row_gather.load(stage, tile.rows - tile.m * HOPPER_BM >= HOPPER_BM);
            if constexpr (Q::ragged_k)
                column_gather.load(stage, kb * HOPPER_BK);
            if constexpr (Q::gathers)
                ptx::copy_arrive(ring.full());
            ring.advance();
            if constexpr (by_rows)
                row_gather.advance();
            if (!Q::ragged_k && kb < walk.STEPS)
                walk.step(kb);
        }
        if constexpr (Q::dact)
            for (int j = 0; j < hidden_stages(g, tile); j++) {
                ptx::barrier_wait(ring.empty(), ring.phase ^ 1);
                if (threadIdx.x == 0)
                    load_hidden(g, tile, j, ring.address(), ring.full());
                ptx::copy_arrive(ring.full());
                ring.advance();
            }
        for (int i = Q::ragged_k ? 0 : blocks; i < walk.STEPS; i++)
            walk.step(i);
    }
    if constexpr (Q::gathers)
        ptx::copy_wait_all();
}

#endif
