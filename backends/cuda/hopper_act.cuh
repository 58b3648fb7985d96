/* The epilogue of H = X_e W1^T: H, and A = act(H) computed from the stored H, as the backward pass
 * will. A tile's columns 0..127 are gates, 128..255 the same columns' ups. */
#ifndef MOE_CUDA_HOPPER_ACT_CUH
#define MOE_CUDA_HOPPER_ACT_CUH

#include "hopper_shared.cuh"

/* A step stores 64 columns of gates, ups or A. */
template <class T, class Q, class Glu> struct ActEpilogue {
    enum { STEPS = 6 };
    const Glu glu;
    StoredLater<Q> tile;
    Packed gate[2], up[2];

    __device__ __forceinline__ ActEpilogue(const HopperArgs &g, const Place &at, uint32_t smem,
                                           const Ring<Q> &)
        : glu{g.act}, tile(g, at, smem) {
    }
    __device__ __forceinline__ void begin(const Tile &t) {
        tile.begin(t);
    }
    __device__ __forceinline__ void round(const float (&acc)[128]) {
        const HopperArgs &g = tile.g;
        const int n = g.columns;
        const T *bias =
            g.bias ? static_cast<const T *>(g.bias) + (int64_t)tile.expert * 2 * n : nullptr;
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int c0 = tile.column + 64 * j;
            pack_plain(g, tile.at, bias, tile.scale, c0, acc + 32 * j, gate[j]);
            pack_plain(g, tile.at, bias ? bias + n : nullptr, tile.scale, c0, acc + 64 + 32 * j,
                       up[j]);
        }
    }
    __device__ __forceinline__ void step(int s) {
        const int j = s / 3, what = s % 3, c0 = tile.column + 64 * j;
        if (c0 >= tile.g.columns || (what != 2 && tile.g.skips_hidden))
            return;
        if (what == 2) { /* A takes the gates' place */
#pragma unroll
            for (int i = 0; i < 16; i++) {
                const float2 x = Element<T>::unpack(gate[j][i]), u = Element<T>::unpack(up[j][i]);
                gate[j][i] = Element<T>::pack(glu.value(x.x, u.x), glu.value(x.y, u.y));
            }
        }
        tile.slabs.template store<false>(what == 1 ? up[j] : gate[j], &tile.g.out[what],
                                         tile.rows.exists, c0, tile.rows.c1, tile.rows.c2);
    }
};

#endif
