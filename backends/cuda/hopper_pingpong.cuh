/* Consumers of the products whose operands both come by bulk copies, taking turns: each warpgroup
 * owns every second tile of its CTA, 128 rows x 192 columns, and multiplies while the other one
 * rounds and stores. The tensor cores idle only where an epilogue outlasts a tile's products. */
#ifndef MOE_CUDA_HOPPER_PINGPONG_CUH
#define MOE_CUDA_HOPPER_PINGPONG_CUH

#include "hopper_epilogue.cuh"

/* The turn to multiply, warpgroup 0 first. It is passed when all four warps have; the next but one
 * cannot come before a slow warp has seen its own, so a parity suffices. */
struct Turn {
    uint32_t mine, other, phase;
    __device__ __forceinline__ Turn(uint32_t barriers, int wg)
        : mine(barriers + 8 * wg), other(barriers + 8 * (wg ^ 1)), phase(wg ^ 1) {
    }
    __device__ __forceinline__ void wait() {
        ptx::barrier_wait(mine, phase);
        phase ^= 1;
    }
    __device__ __forceinline__ void pass() const { /* by one lane of each warp */
        ptx::barrier_arrive(other);
    }
};

/* Accumulators of rows 0..63 and 64..127. */
using TileAcc = float[2][96];

/* Products of one stage: four steps of K = 16, upper and lower 64 rows. */
template <class T, class Q, int columns>
__device__ __forceinline__ void multiply_stage(TileAcc &acc, uint32_t stage, bool add) {
    const uint64_t a = ptx::matrix_descriptor(stage, SLAB_BYTES, 1024);
    const uint64_t b = ptx::matrix_descriptor(stage + A_BYTES, SLAB_BYTES, 1024);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; k++)
#pragma unroll
        for (int half = 0; half < 2; half++)
            ptx::wgmma<T, Q::a_mn_major, Q::b_mn_major, columns>(
                acc[half], a + half * SLAB_BYTES / 16 + k * Q::a_step, b + k * Q::b_step, add || k);
    ptx::wgmma_commit();
}

/* The tile's first `columns` columns. */
template <class T, class Q, int columns>
__device__ __forceinline__ void multiply_columns(TileAcc &acc, Ring<Q> &ring, int k_blocks,
                                                 const Place &at, const Turn &turn) {
    const bool first_lane = (at.t & 31) == 0;
    uint32_t previous = 0;
    for (int kb = 0; kb < k_blocks; kb++) {
        ptx::barrier_wait(ring.full(), ring.phase);
        multiply_stage<T, Q, columns>(acc, ring.address(), kb > 0);
        if (kb > 0) {
            ptx::wgmma_wait<1>();
            if (first_lane)
                ptx::barrier_arrive(previous);
        }
        previous = ring.empty();
        ring.advance();
    }
    if (first_lane)
        turn.pass();
    ptx::wgmma_wait<0>();
    if (first_lane)
        ptx::barrier_arrive(previous);
}

template <class T, class Q>
__device__ __forceinline__ void multiply_tile(TileAcc &acc, int columns, Ring<Q> &ring,
                                              int k_blocks, const Place &at, const Turn &turn) {
    if (columns > 128)
        multiply_columns<T, Q, 192>(acc, ring, k_blocks, at, turn);
    else if (columns > 64)
        multiply_columns<T, Q, 128>(acc, ring, k_blocks, at, turn);
    else
        multiply_columns<T, Q, 64>(acc, ring, k_blocks, at, turn);
}

template <class T, class Q>
__device__ __forceinline__ void epilogue_tile(const HopperArgs &g, const Tile &w, const Place &at,
                                              Slabs<Q::slabs> &slabs, const TileAcc &acc) {
    const T *bias = bias_of<T>(g, w.e);
    const float scale[2] = {1.f, 1.f};
#pragma unroll
    for (int j = 0; j < 3; j++) {
        const int c0 = w.n * Q::columns + 64 * j;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const RowBlock<false> rows(g, w, half);
            if (c0 < g.columns && rows.exists) {
                Packed v;
                pack_plain(g, at, bias, scale, c0, acc[half] + 32 * j, v);
                store_plain<Q>(g, rows, slabs, c0, v);
            }
        }
    }
}

/* Looks at no stage before the other warpgroup has seen its last one filled: a parity cannot tell
 * rounds of the ring apart. */
template <class T, class Q>
__device__ __forceinline__ void consume_in_turns(const HopperArgs &g, uint32_t smem) {
    const Place at;
    Ring<Q> ring(smem);
    Slabs<Q::slabs> slabs(at, smem + Q::slabs_at);
    Turn turn(smem + Q::turns_at, at.wg);
    if (at.wg)
        ring.skip(g.k_blocks);
    for (int left = tiles_of_cta<false>(g) - at.wg; left > 0; left -= 2) {
        TileAcc acc;
        turn.wait();
        ptx::barrier_wait(ring.full(), ring.phase);
        const Tile tile = ring.tile();
        multiply_tile<T, Q>(acc, g.columns - tile.n * Q::columns, ring, g.k_blocks, at, turn);
        ring.skip(g.k_blocks);
        epilogue_tile<T, Q>(g, tile, at, slabs, acc);
    }
    if (at.t % 32 == 0)
        ptx::tma_store_wait_all();
}

#endif
