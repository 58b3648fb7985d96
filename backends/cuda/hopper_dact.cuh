/* The epilogue of dA' = dO W2: reads H, writes dH, A' = s A and row sums of dA' * A (dS). H comes
 * through the ring (hidden_stages); dH overwrites it there, and both leave from there. */
#ifndef MOE_CUDA_HOPPER_DACT_CUH
#define MOE_CUDA_HOPPER_DACT_CUH

#include "hopper_epilogue.cuh"

/* Gives stages back to the producer once bulk stores have read them. */
struct StoredStages {
    const Place &at;
    uint32_t owed = 0; /* barrier of the stage last stored, or 0 */

    __device__ __forceinline__ explicit StoredStages(const Place &place) : at(place) {
    }
    /* The tile's last stage is given back when the next tile's products are under way. */
    __device__ __forceinline__ void settle() {
        if (at.t == 0 && owed) {
            ptx::tma_store_wait_read<0>();
            ptx::barrier_arrive_many(owed, 4); /* for the warpgroup's warps */
        }
        owed = 0;
    }
    template <class Q>
    __device__ __forceinline__ void store(const HopperArgs &g, const RowBlock<false> &rows, int c0,
                                          const Ring<Q> &ring) {
        if (at.t == 0) {
            const uint32_t gate = ring.address() + at.wg * SLAB_BYTES;
            if (rows.exists) {
                ptx::tma_store(&g.out[0], gate, c0, rows.c1, rows.c2);
                ptx::tma_store(&g.out[1], gate + 2 * SLAB_BYTES, c0, rows.c1, rows.c2);
                ptx::tma_store(&g.out[2], gate + 4 * SLAB_BYTES, c0, rows.c1, rows.c2);
            }
            ptx::tma_store_commit();
            if (owed) {
                ptx::tma_store_wait_read<1>();
                ptx::barrier_arrive_many(owed, 4);
            }
        }
        owed = ring.empty();
    }
};

/* 64 rows x 64 columns: x are their 32 accumulators, `gate` the first of three slabs two apart. */
template <class T, class Glu>
__device__ __forceinline__ void dact_step(const Place &at, const Glu &glu, uint32_t gate,
                                          const float *x, const float (&s)[2], float (&ds)[2]) {
    const uint32_t up = gate + 2 * SLAB_BYTES;
#pragma unroll
    for (int p = 0; p < 4; p++) {
        uint32_t g[4], u[4], a[4];
        ptx::ldmatrix4(g, at.block(gate, p));
        ptx::ldmatrix4(u, at.block(up, p));
#pragma unroll
        for (int q = 0; q < 4; q++) { /* columns 8 (2p + q/2), row half q % 2 */
            const int half = q & 1;
            const float *d = x + (2 * p + (q >> 1)) * 4 + 2 * half;
            float2 vg = Element<T>::unpack(g[q]), vu = Element<T>::unpack(u[q]);
            float dg[2], du[2];
            float a0 = glu.parts(vg.x, vu.x, &dg[0], &du[0]);
            float a1 = glu.parts(vg.y, vu.y, &dg[1], &du[1]);
            ds[half] += d[0] * a0 + d[1] * a1;
            float d0 = s[half] * d[0], d1 = s[half] * d[1];
            g[q] = Element<T>::pack(d0 * dg[0], d1 * dg[1]);
            u[q] = Element<T>::pack(d0 * du[0], d1 * du[1]);
            a[q] = Element<T>::pack(s[half] * a0, s[half] * a1);
        }
        __syncwarp();
        ptx::stmatrix4(at.block(gate, p), g);
        ptx::stmatrix4(at.block(up, p), u);
        ptx::stmatrix4(at.block(up + 2 * SLAB_BYTES, p), a);
    }
}

/* The four lanes of a row add up and one writes. */
__device__ __forceinline__ void store_row_sums(const HopperArgs &g, const TileWalk<false> &w,
                                               const Place &at, int r0, const float (&ds)[2]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = ds[half];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        int r = r0 + at.row(half);
        if ((at.t & 3) == 0 && r < w.rows)
            g.ds_part[(int64_t)w.n * g.rows_cap + w.row0 + r] = sum;
    }
}

template <class T, class Glu, class Q>
__device__ __forceinline__ void epilogue_dact(const HopperArgs &g, const TileWalk<false> &w,
                                              const Place &at, StoredStages &stored, Ring<Q> &ring,
                                              const float (&acc)[128]) {
    const Glu glu{g.act};
    const RowBlock<false> rows(g, w, at.wg);
    const int stages = hidden_stages(g, w);
    float s[2], ds[2] = {0.f, 0.f};
    row_factors(w, at, rows.r0, g.weight, s);
#pragma unroll
    for (int j = 0; j < HOPPER_BN / 64; j++) {
        if (j >= stages)
            continue;
        ptx::barrier_wait(ring.full(), ring.phase);
        dact_step<T>(at, glu, ring.address() + at.wg * SLAB_BYTES, acc + 32 * j, s, ds);
        ptx::fence_async_proxy();
        at.sync();
        stored.store(g, rows, w.n * HOPPER_BN + 64 * j, ring);
        ring.advance();
    }
    store_row_sums(g, w, at, rows.r0, ds);
}

#endif
