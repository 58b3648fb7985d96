/* The epilogue of a weight gradient that goes to a place of its own: another dtype, order or a
 * buffer that it is added to. Straight from the accumulators to memory, 32 elements of a thread at
 * a time, so that what is there is read with 32 loads in flight. */
#ifndef MOE_CUDA_HOPPER_TARGET_CUH
#define MOE_CUDA_HOPPER_TARGET_CUH

#include "hopper_shared.cuh"

template <class T, class Q> struct TargetEpilogue {
    enum { STEPS = 0 };
    const HopperArgs &g;
    const Place &at;
    Tile tile;

    __device__ __forceinline__ TargetEpilogue(const HopperArgs &args, const Place &place, uint32_t,
                                              const Ring<Q> &)
        : g(args), at(place) {
    }
    __device__ __forceinline__ void begin(const Tile &t) {
        tile = t;
    }
    __device__ __forceinline__ void round(const float (&acc)[128]) {
#pragma unroll
        for (int j = 0; j < Q::columns / 64; j++) {
            const int c0 = tile.n * Q::columns + 64 * j;
            if (c0 >= g.columns)
                continue;
            if (g.target.is_f32)
                put<float>(static_cast<float *>(g.target.out), c0, acc + 32 * j);
            else
                put<T>(static_cast<T *>(g.target.out), c0, acc + 32 * j);
        }
    }
    __device__ __forceinline__ void step(int) {
    }

  private:
    static __device__ __forceinline__ float value(float x) {
        return x;
    }
    static __device__ __forceinline__ float value(T x) {
        return Element<T>::load(&x);
    }
    static __device__ __forceinline__ void round_to(float x, float *out) {
        *out = x;
    }
    static __device__ __forceinline__ void round_to(float x, T *out) {
        *out = Element<T>::from(x);
    }
    /* Where accumulator i of a block of 64 x 64 belongs; false: past the matrix's last row. */
    __device__ __forceinline__ bool place(int i, int c0, int64_t *ret) const {
        const int r = tile.m * HOPPER_BM + 64 * at.wg + at.row(i >> 1 & 1);
        const int c = c0 + 8 * (i >> 2) + at.column() + (i & 1);
        *ret = Q::transposed ? target_place(g.target, tile.e, c, r)
                             : target_place(g.target, tile.e, r, c);
        return r < g.target_rows;
    }
    template <class E> __device__ __forceinline__ void put(E *out, int c0, const float *x) const {
        float sum[32];
        int64_t where;
#pragma unroll
        for (int i = 0; i < 32; i++)
            sum[i] = g.target.adds && place(i, c0, &where) ? value(out[where]) : 0.f;
#pragma unroll
        for (int i = 0; i < 32; i++)
            if (place(i, c0, &where))
                round_to(g.target.adds ? sum[i] + x[i] : x[i], out + where);
    }
};

#endif
