/* The epilogue of dA' = dO W2: reads H, writes dH, A' = s A and row sums of dA' * A (dS). H comes
 * through the ring (hidden_stages); dH overwrites it there, and both leave from there. */
#ifndef MOE_CUDA_HOPPER_DACT_CUH
#define MOE_CUDA_HOPPER_DACT_CUH

#include "hopper_shared.cuh"

/* Gives stages back to the producer once bulk stores have read them. Three warps store a slab each:
 * asking takes long enough to be late for the next stage. */
struct StoredStages {
    int slab;          /* 0 gate, 1 up, 2 A'; 3 for threads that store nothing */
    uint32_t owed = 0; /* barrier of the stage last stored, or 0 */

    __device__ __forceinline__ explicit StoredStages(const Place &at)
        : slab(at.t % 32 == 0 ? at.t / 32 : 3) {
    }
    __device__ __forceinline__ void give_back() const {
        ptx::barrier_arrive_many(owed, slab == 0 ? 2 : 1); /* four for the warpgroup's warps */
    }
    /* The tile's last stage is given back when the next tile's products are under way. */
    __device__ __forceinline__ void settle() {
        if (slab < 3 && owed) {
            ptx::tma_store_wait_read<0>();
            give_back();
        }
        owed = 0;
    }
    template <class Q>
    __device__ __forceinline__ void store(const HopperArgs &g, const RowBlock<false> &rows, int c0,
                                          uint32_t gate, const Ring<Q> &ring) {
        if (slab < 3) {
            if (rows.exists)
                ptx::tma_store(&g.out[slab], gate + 2 * slab * SLAB_BYTES, c0, rows.c1, rows.c2);
            ptx::tma_store_commit();
            if (owed) {
                ptx::tma_store_wait_read<1>();
                give_back();
            }
        }
        owed = ring.empty();
    }
};

/* 64 rows x 64 columns: x are their 32 accumulators, `gate` the first of three slabs two apart. H
 * is read a block ahead. */
template <class T, class Glu>
__device__ __forceinline__ void dact_step(const Place &at, const Glu &glu, uint32_t gate,
                                          const float *x, const float (&s)[2], float (&ds)[2]) {
    const uint32_t up = gate + 2 * SLAB_BYTES;
    uint32_t gates[2][4], ups[2][4];
    ptx::ldmatrix4(gates[0], at.block(gate, 0));
    ptx::ldmatrix4(ups[0], at.block(up, 0));
#pragma unroll
    for (int p = 0; p < 4; p++) {
        uint32_t(&g)[4] = gates[p & 1], (&u)[4] = ups[p & 1], a[4];
        if (p < 3) {
            ptx::ldmatrix4(gates[~p & 1], at.block(gate, p + 1));
            ptx::ldmatrix4(ups[~p & 1], at.block(up, p + 1));
        }
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
__device__ __forceinline__ void store_row_sums(const HopperArgs &g, const Tile &w, const Place &at,
                                               int r0, const float (&ds)[2]) {
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

/* Nothing is put off: H comes through the ring after the tile's blocks of K. */
template <class T, class Q, class Glu> struct DactEpilogue {
    enum { STEPS = 0 };
    const HopperArgs &g;
    const Place &at;
    Ring<Q> &ring;
    const Glu glu;
    StoredStages stored;
    Tile tile;
    float weight[2];

    __device__ __forceinline__ DactEpilogue(const HopperArgs &args, const Place &place, uint32_t,
                                            Ring<Q> &stages)
        : g(args), at(place), ring(stages), glu{args.act}, stored(place) {
    }
    __device__ __forceinline__ void begin(const Tile &t) {
        stored.settle();
        tile = t;
        row_factors(t, at, t.m * HOPPER_BM + 64 * at.wg, g.weight, weight);
    }
    __device__ __forceinline__ void round(const float (&acc)[128]) {
        const RowBlock<false> rows(g, tile, at.wg);
        const int stages = hidden_stages(g, tile);
        float ds[2] = {0.f, 0.f};
#pragma unroll
        for (int j = 0; j < HOPPER_BN / 64; j++) {
            if (j >= stages)
                continue;
            const uint32_t gate = ring.address() + at.wg * SLAB_BYTES;
            ptx::barrier_wait(ring.full(), ring.phase);
            dact_step<T>(at, glu, gate, acc + 32 * j, weight, ds);
            ptx::fence_async_proxy();
            at.sync();
            stored.store(g, rows, tile.n * HOPPER_BN + 64 * j, gate, ring);
            ring.advance();
        }
        store_row_sums(g, tile, at, rows.r0, ds);
    }
    __device__ __forceinline__ void step(int) {
    }
};

#endif
