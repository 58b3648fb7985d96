/* The producer warpgroup: fills the ring of stages with bulk copies (one thread) and with gathered
 * rows (all 128 threads, cp.async). Both operands land in the 128-byte swizzle that wgmma reads:
 * 16-byte chunk c of row r lies at chunk c ^ (r % 8). */
#ifndef MOE_CUDA_HOPPER_PRODUCER_CUH
#define MOE_CUDA_HOPPER_PRODUCER_CUH

#include "hopper_tiles.cuh"

/* Bulk copies of one stage; returns nothing, completes on `bar`. */
template <HopperOp op>
__device__ __forceinline__ void bulk_load(const HopperArgs &g,
                                          const TileWalk<Traits<op>::ragged_k> &w, int k0,
                                          uint32_t stage, uint32_t bar) {
    using Q = Traits<op>;
    const uint32_t a = stage, b = stage + A_BYTES;
    const int end = w.row0 + w.rows;
    const int m0 = w.m * HOPPER_BM, n0 = w.n * HOPPER_BN;
    ptx::barrier_expect(bar, (Q::gather_a ? 0 : A_BYTES) + (Q::gather_b ? 0 : B_BYTES));
    if constexpr (!Q::gather_a && Q::ragged_k) {
        for (int j = 0; j < 2; j++)
            ptx::tma_load(&g.a, bar, a + j * SLAB_BYTES, m0 + 64 * j, g.rows_cap - w.rows + k0,
                          end);
    } else if constexpr (!Q::gather_a) {
        ptx::tma_load(&g.a, bar, a, k0, g.rows_cap - w.rows + m0, end);
    }
    if constexpr (Q::act) { /* W1 as {d, n, 2E}: gate rows, then up rows */
        ptx::tma_load(&g.b, bar, b, k0, w.n * 128, 2 * w.e);
        ptx::tma_load(&g.b, bar, b + B_BYTES / 2, k0, w.n * 128, 2 * w.e + 1);
    } else if constexpr (!Q::b_mn_major) {
        ptx::tma_load(&g.b, bar, b, k0, n0, w.e);
        ptx::tma_load(&g.b, bar, b + B_BYTES / 2, k0, n0 + 128, w.e);
    } else if constexpr (!Q::gather_b) {
        int row = Q::ragged_k ? g.rows_cap - w.rows + k0 : k0;
        for (int j = 0; j < 4; j++)
            ptx::tma_load(&g.b, bar, b + j * SLAB_BYTES, n0 + 64 * j, row, Q::ragged_k ? end : w.e);
    }
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

/* Gathered rows as an MN-major operand of a weight gradient: 64 rows (the K of this block) of
 * `chunks` 16-byte chunks, in slabs of 64 columns. A warp copies 16 rows; lane i knows one row's
 * token. */
template <class T, int chunks> struct ColumnGather {
    int next_token;

    /* Which of the 64 rows this thread's i-th copy takes, and which row lane i looks up. */
    static __device__ __forceinline__ int row_of(int warp, int lane, int i) {
        return chunks == 16 ? 2 * warp + (lane >> 4) + 8 * i : warp + 4 * i;
    }
    __device__ __forceinline__ void look_up(const HopperArgs &g, int row0, int rows, int k0) {
        int warp = (int)threadIdx.x >> 5, lane = (int)threadIdx.x & 31, i = lane & 15;
        int r = chunks == 16 ? row_of(warp, (i & 1) << 4, i >> 1) : row_of(warp, 0, i);
        next_token = k0 + r < rows ? __ldg(g.token + row0 + k0 + r) : -1;
    }

    /* Copies columns col0 ... of the block that was looked up. */
    __device__ __forceinline__ void load(const HopperArgs &g, uint32_t dst, int col0) const {
        int warp = (int)threadIdx.x >> 5, lane = (int)threadIdx.x & 31;
        int c = lane & (chunks - 1), col = col0 + 8 * c;
        const T *source = static_cast<const T *>(g.gather) + col;
        uint32_t slab = dst + (c >> 3) * SLAB_BYTES;
#pragma unroll
        for (int i = 0; i < chunks / 2; i++) {
            int r = row_of(warp, lane, i);
            int token = __shfl_sync(~0u, next_token, chunks == 16 ? 2 * i + (lane >> 4) : i);
            bool valid = token >= 0 && col < g.gather_width;
            ptx::copy16_async(slab + r * 128 + (((c & 7) ^ (r & 7)) << 4),
                              valid ? source + (int64_t)token * g.gather_width
                                    : static_cast<const T *>(g.gather),
                              valid);
        }
    }
};

/* Announces gathered stages in order, `lag` blocks behind their issue, so that copies of several
 * blocks are in flight: cp.async writes through the generic proxy, and the fence that hands its
 * data to wgmma needs the copies to have finished. */
template <int stages> struct GatherSignal {
    static constexpr int lag = stages - 2; /* the consumer holds up to two stages */
    int waiting = 0;
    Ring<stages> ring;

    __device__ __forceinline__ void announce(uint32_t full) {
        ptx::fence_async_proxy();
        ptx::barrier_arrive(full + 8 * ring.stage);
        ring.advance();
    }
    __device__ __forceinline__ void issued(uint32_t full) {
        ptx::copy_commit();
        if (waiting < lag) {
            waiting++;
            return;
        }
        ptx::copy_wait<lag>();
        announce(full);
    }
    __device__ __forceinline__ void drain(uint32_t full) {
        ptx::copy_wait<0>();
        for (; waiting > 0; waiting--)
            announce(full);
    }
};

template <class T, HopperOp op>
__device__ __forceinline__ void produce(const HopperArgs &g, uint32_t smem) {
    using Q = Traits<op>;
    constexpr bool gathers = Q::gather_a || Q::gather_b;
    if (!gathers && threadIdx.x != 0)
        return;
    TileWalk<Q::ragged_k> w(g);
    Ring<Q::stages> ring;
    GatherSignal<Q::stages> signal;
    RowGather<T> by_row;
    ColumnGather<T, Q::gather_b ? 32 : 16> by_column;
    const uint32_t full = smem + Smem<op>::full, empty = smem + Smem<op>::empty;
    while (w.next()) {
        const int k_blocks = w.k_blocks();
        if constexpr (Q::gather_a && !Q::ragged_k)
            by_row.start(g, w.row0, w.rows, w.m * HOPPER_BM);
        if constexpr (gathers && Q::ragged_k)
            by_column.look_up(g, w.row0, w.rows, 0);
        for (int kb = 0; kb < k_blocks; kb++) {
            const uint32_t stage = smem + ring.stage * STAGE_BYTES;
            ptx::barrier_wait(empty + 8 * ring.stage, ring.phase ^ 1);
            if (threadIdx.x == 0)
                bulk_load<op>(g, w, kb * HOPPER_BK, stage, full + 8 * ring.stage);
            if constexpr (Q::gather_a && !Q::ragged_k)
                by_row.load(stage, kb * HOPPER_BK);
            if constexpr (gathers && Q::ragged_k) {
                by_column.load(g, Q::gather_a ? stage : stage + A_BYTES,
                               Q::gather_a ? w.m * HOPPER_BM : w.n * HOPPER_BN);
                by_column.look_up(g, w.row0, w.rows, (kb + 1) * HOPPER_BK);
            }
            if constexpr (gathers)
                signal.issued(full);
            ring.advance();
        }
    }
    if constexpr (gathers)
        signal.drain(full);
}

#endif
