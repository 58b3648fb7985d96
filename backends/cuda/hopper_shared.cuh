/* Consumers that share every tile: 64 of its 128 rows each, all 256 columns. A tile's epilogue can
 * be put off: what is left of the tile then stays in registers, rounded to 16 bits, and leaves step
 * by step under the products of the next one, while the tensor cores work.
 *
 * An Epilogue has
 *   begin(tile)  what it must know of the tile at hand; the one before is done with
 *   round(acc)   takes the tile's accumulators: they are overwritten next
 *   step(s)      for s = 0 ... STEPS - 1, a part of what was put off */
#ifndef MOE_CUDA_HOPPER_SHARED_CUH
#define MOE_CUDA_HOPPER_SHARED_CUH

#include "hopper_epilogue.cuh"

/* Products of one stage: four steps of K = 16. */
template <class T, class Q>
__device__ __forceinline__ void multiply_stage(float (&acc)[128], uint32_t stage, int wg,
                                               bool add) {
    const uint64_t a = ptx::matrix_descriptor(stage + wg * SLAB_BYTES, SLAB_BYTES, 1024);
    const uint64_t b = ptx::matrix_descriptor(stage + A_BYTES, SLAB_BYTES, 1024);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; k++)
        ptx::wgmma<T, Q::a_mn_major, Q::b_mn_major, 256>(acc, a + k * Q::a_step, b + k * Q::b_step,
                                                         add || k);
    ptx::wgmma_commit();
}

/* The products of a tile's stages, one batch under way while the next is asked for. */
template <class T, class Q> struct Products {
    float (&acc)[128];
    Ring<Q> &ring;
    const int wg, blocks;
    const bool first_lane;
    int done = 0;      /* blocks of K asked for */
    uint32_t previous; /* barrier of the stage last asked for */

    __device__ __forceinline__ Products(float (&accumulators)[128], Ring<Q> &stages, int warpgroup,
                                        int k_blocks)
        : acc(accumulators), ring(stages), wg(warpgroup), blocks(k_blocks),
          first_lane((threadIdx.x & 31) == 0) {
    }
    __device__ __forceinline__ bool more() const {
        return done < blocks;
    }
    __device__ __forceinline__ void first() {
        ask(false);
        previous = take_stage();
    }
    __device__ __forceinline__ void next() {
        ask(true);
        ptx::wgmma_wait<1>();
        give_back();
        previous = take_stage();
    }
    __device__ __forceinline__ void last() {
        ptx::wgmma_wait<0>();
        give_back();
    }
    /* A tile without blocks still has a stage. */
    __device__ __forceinline__ void none() {
#pragma unroll
        for (int i = 0; i < 128; i++)
            acc[i] = 0.f;
        __syncwarp(); /* all lanes have read the tile */
        previous = take_stage();
        give_back();
    }

  private:
    __device__ __forceinline__ void ask(bool add) {
        ptx::barrier_wait(ring.full(), ring.phase);
        if (Q::gathers) /* cp.async wrote through the generic proxy */
            ptx::fence_async_proxy();
        multiply_stage<T, Q>(acc, ring.address(), wg, add);
        done++;
    }
    __device__ __forceinline__ uint32_t take_stage() {
        const uint32_t empty = ring.empty();
        ring.advance();
        return empty;
    }
    __device__ __forceinline__ void give_back() const {
        if (first_lane)
            ptx::barrier_arrive(previous);
    }
};

template <class Epilogue> __device__ __forceinline__ void finish(Epilogue &epilogue) {
#pragma unroll
    for (int s = 0; s < Epilogue::STEPS; s++)
        epilogue.step(s);
}

/* Multiplies a tile and does what was put off of the one before. */
template <class T, class Q, class Epilogue>
__device__ __forceinline__ void multiply_tile(Products<T, Q> products, const Tile &tile,
                                              Epilogue &epilogue) {
    if (Q::ragged_k && !products.more()) {
        finish(epilogue);
        epilogue.begin(tile);
        products.none();
        return;
    }
    products.first();
#pragma unroll
    for (int s = 0; s < Epilogue::STEPS; s++) {
        epilogue.step(s);
        if (products.more())
            products.next();
    }
    epilogue.begin(tile);
    while (products.more())
        products.next();
    products.last();
}

template <class T, class Q, class Epilogue>
__device__ __forceinline__ void consume(const HopperArgs &g, uint32_t smem) {
    const Place at;
    Ring<Q> ring(smem);
    Epilogue epilogue(g, at, smem, ring);
    for (int left = tiles_of_cta<Q::ragged_k>(g); left > 0; left--) {
        float acc[128];
        ptx::barrier_wait(ring.full(), ring.phase);
        const Tile tile = ring.tile();
        multiply_tile(Products<T, Q>(acc, ring, at.wg, k_blocks<Q::ragged_k>(g, tile)), tile,
                      epilogue);
        epilogue.round(acc);
    }
    finish(epilogue);
    if (at.t % 32 == 0)
        ptx::tma_store_wait_all();
}

#endif
