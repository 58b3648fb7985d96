/* The epilogue of H = X_e W1^T: H, and A = act(H) computed from the stored H, as the backward pass
 * will. A tile's columns 0..127 are gates, 128..255 the same columns' ups. */
#ifndef MOE_CUDA_HOPPER_ACT_CUH
#define MOE_CUDA_HOPPER_ACT_CUH

#include "hopper_shared.cuh"

/* A step stores 64 columns of gates, ups or A. */
template <class T, class Q, class Glu> struct ActEpilogue {
    enum { STEPS = 6 };
    const HopperArgs &g;
    const Place &at;
    const Glu glu;
    Slabs<Q::slabs> slabs;
    RowBlock<false> rows;
    int column, expert; /* the tile's first column */
    float scale[2];
    Packed gate[2], up[2];

    __device__ __forceinline__ ActEpilogue(const HopperArgs &args, const Place &place,
                                           uint32_t smem, const Ring<Q> &)
        : g(args), at(place), glu{args.act}, slabs(place, smem + Q::slabs_at),
          column(args.columns) {
    }
    __device__ __forceinline__ void begin(const Tile &t) {
        rows = RowBlock<false>(g, t, at.wg);
        column = t.n * Q::columns;
        expert = t.e;
        row_factors(t, at, t.m * HOPPER_BM + 64 * at.wg, g.row_scale, scale);
    }
    __device__ __forceinline__ void round(const float (&acc)[128]) {
        const int n = g.columns;
        const T *bias = g.bias ? static_cast<const T *>(g.bias) + (int64_t)expert * 2 * n : nullptr;
#pragma unroll
        for (int j = 0; j < 2; j++) {
            pack_plain(g, at, bias, scale, column + 64 * j, acc + 32 * j, gate[j]);
            pack_plain(g, at, bias ? bias + n : nullptr, scale, column + 64 * j, acc + 64 + 32 * j,
                       up[j]);
        }
    }
    __device__ __forceinline__ void step(int s) {
        const int j = s / 3, what = s % 3, c0 = column + 64 * j;
        if (c0 >= g.columns)
            return;
        if (what == 2) { /* A takes the gates' place */
#pragma unroll
            for (int i = 0; i < 16; i++) {
                const float2 x = Element<T>::unpack(gate[j][i]), u = Element<T>::unpack(up[j][i]);
                gate[j][i] = Element<T>::pack(glu.value(x.x, u.x), glu.value(x.y, u.y));
            }
        }
        slabs.template store<false>(what == 1 ? up[j] : gate[j], &g.out[what], rows.exists, c0,
                                    rows.c1, rows.c2);
    }
};

#endif
