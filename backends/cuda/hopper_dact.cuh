/* The epilogue of dA' = dO W2: reads H, writes dH, A' = s A and row sums of dA' * A (dS).
 *
 * It works in steps of 64 rows x 64 columns. A warpgroup owns five slabs: gate and up of H for two
 * steps in flight, overwritten in place by dH, and one for A'. */
#ifndef MOE_CUDA_HOPPER_DACT_CUH
#define MOE_CUDA_HOPPER_DACT_CUH

#include "hopper_epilogue.cuh"

struct HiddenSlabs {
    const HopperArgs &g;
    const Place &at;
    uint32_t bars, phases = 0;
    int steps; /* of the tile that exist */

    __device__ __forceinline__ HiddenSlabs(const HopperArgs &args, const Place &place, uint32_t h)
        : g(args), at(place), bars(h + 16 * place.wg) {
    }
    __device__ __forceinline__ uint32_t gate(int j) const {
        return at.slabs + (j & 1) * 2 * SLAB_BYTES;
    }
    __device__ __forceinline__ uint32_t up(int j) const {
        return gate(j) + SLAB_BYTES;
    }
    __device__ __forceinline__ uint32_t a() const {
        return at.slabs + 4 * SLAB_BYTES;
    }
    /* One thread: H of step j. Without rows of its own the warpgroup reads the expert's last one.
     */
    __device__ __forceinline__ void load(const TileWalk<false> &w, int j) const {
        const RowBlock<false> rows(g, w, at.wg);
        const int c0 = w.n * HOPPER_BN + 64 * j, c1 = min(rows.c1, g.rows_cap - 1);
        const uint32_t bar = bars + 8 * (j & 1);
        ptx::barrier_expect(bar, 2 * SLAB_BYTES);
        ptx::tma_load(&g.in[0], bar, gate(j), c0, c1, rows.c2);
        ptx::tma_load(&g.in[1], bar, up(j), c0, c1, rows.c2);
    }
    /* Before the tile's products: the first two steps' H, while the tensor cores work. */
    __device__ __forceinline__ void prefetch(const TileWalk<false> &w) {
        steps = min(4, (g.columns - w.n * HOPPER_BN + 63) / 64);
        if (at.t != 0)
            return;
        ptx::tma_store_wait_read<0>();
        for (int j = 0; j < min(2, steps); j++)
            load(w, j);
    }
    __device__ __forceinline__ void wait(int j) {
        ptx::barrier_wait(bars + 8 * (j & 1), phases >> (j & 1) & 1);
        phases ^= 1u << (j & 1);
    }
    /* Step j is computed: frees the other pair of slabs and fills it for step j + 1. */
    __device__ __forceinline__ void turn(const TileWalk<false> &w, int j) const {
        if (at.t != 0)
            return;
        ptx::tma_store_wait_read<0>();
        if (j >= 1 && j + 1 < steps)
            load(w, j + 1);
    }
    __device__ __forceinline__ void store(const RowBlock<false> &rows, int j, int c0) const {
        if (at.t != 0)
            return;
        if (rows.exists) {
            ptx::tma_store(&g.out[0], gate(j), c0, rows.c1, rows.c2);
            ptx::tma_store(&g.out[1], up(j), c0, rows.c1, rows.c2);
            ptx::tma_store(&g.out[2], a(), c0, rows.c1, rows.c2);
        }
        ptx::tma_store_commit();
    }
};

/* One step: x are its 32 accumulators. */
template <class T, class Glu>
__device__ __forceinline__ void dact_step(const Place &at, const Glu &glu, uint32_t gate,
                                          uint32_t up, const float *x, const float (&s)[2],
                                          float (&ds)[2], Packed &a) {
#pragma unroll
    for (int p = 0; p < 4; p++) {
        uint32_t g[4], u[4];
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
            a[4 * p + q] = Element<T>::pack(s[half] * a0, s[half] * a1);
        }
        __syncwarp();
        ptx::stmatrix4(at.block(gate, p), g);
        ptx::stmatrix4(at.block(up, p), u);
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

template <class T, class Glu>
__device__ __forceinline__ void epilogue_dact(const HopperArgs &g, const TileWalk<false> &w,
                                              const Place &at, HiddenSlabs &h,
                                              const float (&acc)[128]) {
    const Glu glu{g.act};
    const RowBlock<false> rows(g, w, at.wg);
    float s[2], ds[2] = {0.f, 0.f};
    row_factors(w, at, rows.r0, g.weight, s);
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if (j >= h.steps)
            continue;
        Packed a;
        h.wait(j);
        dact_step<T>(at, glu, h.gate(j), h.up(j), acc + 32 * j, s, ds, a);
        h.turn(w, j);
        at.sync();
        slab_write<false>(at, h.a(), a);
        ptx::fence_async_proxy();
        at.sync();
        h.store(rows, j, w.n * HOPPER_BN + 64 * j);
    }
    store_row_sums(g, w, at, rows.r0, ds);
}

#endif
