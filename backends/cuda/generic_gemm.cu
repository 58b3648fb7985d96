/* The portable grouped GEMM: mma.sync on 128 x 128 x 32 tiles, eight warps of 64 x 32, two stages
 * of cp.async. Every shape and layout of the layer goes through it where Hopper's kernels do not
 * apply, and the router's own products always do. */
#include "element.cuh"
#include "kernels.h"
#include "ptx.cuh"

namespace {

constexpr int BM = 128, BN = 128, BK = 32, THREADS = 256;
constexpr int K_MAJOR_LD = BK + 8;  /* [128][40]: conflict-free for ldmatrix */
constexpr int MN_MAJOR_LD = BM + 8; /* [32][136] */
constexpr int TILE_ELEMENTS = 128 * K_MAJOR_LD;

/* One operand as the kernel sees it: `limit` bounds the index along M or N, rows of `base` are
 * picked by map from `first_row` on where they belong to the grouped dimension. */
template <class T> struct Operand {
    const T *base;
    const int *map;
    int ld, first_row, limit;

    __device__ __forceinline__ const T *row(int r) const {
        return base + (int64_t)(map ? map[first_row + r] : first_row + r) * ld;
    }
    /* 128 rows (along M or N) x 32 of K. */
    __device__ __forceinline__ void load_k_major(T *tile, int mn0, int k0, int k_limit) const {
        for (int i = (int)threadIdx.x; i < 128 * 4; i += THREADS) {
            int r = i >> 2, c = (i & 3) * 8;
            bool valid = mn0 + r < limit && k0 + c < k_limit;
            ptx::copy16_async(ptx::smem_address(tile + r * K_MAJOR_LD + c),
                              valid ? row(mn0 + r) + k0 + c : base, valid);
        }
    }
    /* 32 rows (along K) x 128 of M or N. */
    __device__ __forceinline__ void load_mn_major(T *tile, int mn0, int k0, int k_limit) const {
        for (int i = (int)threadIdx.x; i < BK * 16; i += THREADS) {
            int r = i >> 4, c = (i & 15) * 8;
            bool valid = mn0 + c < limit && k0 + r < k_limit;
            ptx::copy16_async(ptx::smem_address(tile + r * MN_MAJOR_LD + c),
                              valid ? row(k0 + r) + mn0 + c : base, valid);
        }
    }
};

/* Fragments of a 16 x 16 block at (mn, k) for mma's left operand. */
template <class T, bool mn_major>
__device__ __forceinline__ void left_fragment(uint32_t (&f)[4], const T *tile, int mn, int k) {
    int lane = (int)threadIdx.x & 31, q = lane >> 3, r = lane & 7;
    if (mn_major)
        ptx::ldmatrix4_trans(
            f, ptx::smem_address(tile + (k + (q >> 1) * 8 + r) * MN_MAJOR_LD + mn + (q & 1) * 8));
    else
        ptx::ldmatrix4(
            f, ptx::smem_address(tile + (mn + (lane & 15)) * K_MAJOR_LD + k + (lane >> 4) * 8));
}

/* The same for the right one: words 0, 1 are columns mn .. mn+7, words 2, 3 the next eight. */
template <class T, bool mn_major>
__device__ __forceinline__ void right_fragment(uint32_t (&f)[4], const T *tile, int mn, int k) {
    int lane = (int)threadIdx.x & 31, q = lane >> 3, r = lane & 7;
    if (mn_major)
        ptx::ldmatrix4_trans(
            f, ptx::smem_address(tile + (k + (q & 1) * 8 + r) * MN_MAJOR_LD + mn + (q >> 1) * 8));
    else
        ptx::ldmatrix4(
            f, ptx::smem_address(tile + (mn + (q >> 1) * 8 + r) * K_MAJOR_LD + k + (q & 1) * 8));
}

template <class T, bool a_mn, bool b_mn>
__device__ __forceinline__ void multiply(float (&acc)[4][4][4], const T *a, const T *b) {
    int warp = (int)threadIdx.x >> 5, m0 = (warp & 1) * 64, n0 = (warp >> 1) * 32;
#pragma unroll
    for (int k = 0; k < BK; k += 16) {
        uint32_t fa[4][4], fb[2][4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            left_fragment<T, a_mn>(fa[i], a, m0 + 16 * i, k);
#pragma unroll
        for (int j = 0; j < 2; j++)
            right_fragment<T, b_mn>(fb[j], b, n0 + 16 * j, k);
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                ptx::mma16816<T>(acc[i][j], fa[i], fb[j >> 1][2 * (j & 1)],
                                 fb[j >> 1][2 * (j & 1) + 1]);
    }
}

/* A thread's accumulators: rows 16 i + lane/4 (+8), columns 8 j + 2 (lane%4). */
template <class T>
__device__ __forceinline__ void store_tile(const GenericArgs &g, const float (&acc)[4][4][4],
                                           int64_t out0, int e, int row0, int m0, int m_limit,
                                           int n0) {
    int warp = (int)threadIdx.x >> 5, lane = (int)threadIdx.x & 31;
    const T *bias = g.bias ? static_cast<const T *>(g.bias) + (int64_t)e * g.N : nullptr;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int m = m0 + (warp & 1) * 64 + 16 * i + (lane >> 2) + 8 * half;
            if (m >= m_limit)
                continue;
            float scale = g.row_scale ? g.row_scale[row0 + m] : 1.f;
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    int n = n0 + (warp >> 1) * 32 + 8 * j + 2 * (lane & 3) + c;
                    if (n >= g.N)
                        continue;
                    float v =
                        acc[i][j][2 * half + c] * scale + (bias ? Element<T>::load(bias + n) : 0.f);
                    int64_t at = out0 + (int64_t)m * g.ldc + n;
                    if (g.target.out)
                        store_to<T>(g.target, e, m, n, v);
                    else if (g.out_f32)
                        static_cast<float *>(g.out)[at] = v;
                    else
                        static_cast<T *>(g.out)[at] = Element<T>::from(v);
                }
        }
}

template <class T, GenericForm form>
__global__ void __launch_bounds__(THREADS)
    generic_kernel(const GenericArgs g, const RowGroups rows) {
    constexpr bool a_mn = form == GENERIC_TN, b_mn = form != GENERIC_NT;
    __shared__ __align__(16) T tile_a[2][TILE_ELEMENTS], tile_b[2][TILE_ELEMENTS];
    int e, m_tile;
    if (form == GENERIC_TN) {
        int m_tiles = (g.M + BM - 1) / BM;
        e = (int)blockIdx.x / m_tiles;
        m_tile = (int)blockIdx.x % m_tiles;
    } else {
        if ((int)blockIdx.x >= rows.tile_offsets[rows.E])
            return;
        e = rows.tiles[blockIdx.x].expert;
        m_tile = rows.tiles[blockIdx.x].index;
    }
    const int row0 = rows.offsets[e], count = rows.offsets[e + 1] - row0;
    const int m0 = m_tile * BM, n0 = (int)blockIdx.y * BN;
    const int m_limit = form == GENERIC_TN ? g.M : count,
              k_limit = form == GENERIC_TN ? count : g.K;
    Operand<T> a = {static_cast<const T *>(g.a), g.a_map, g.lda, row0, m_limit};
    Operand<T> b = {static_cast<const T *>(g.b), g.b_map, g.ldb, row0, g.N};
    if (form != GENERIC_TN) {
        b.base += (int64_t)e * g.b_stride;
        b.first_row = 0; /* a map then picks rows along K */
    }
    auto load = [&](int stage, int k0) {
        if (a_mn)
            a.load_mn_major(tile_a[stage], m0, k0, k_limit);
        else
            a.load_k_major(tile_a[stage], m0, k0, k_limit);
        if (b_mn)
            b.load_mn_major(tile_b[stage], n0, k0, k_limit);
        else
            b.load_k_major(tile_b[stage], n0, k0, k_limit);
        ptx::copy_commit();
    };
    float acc[4][4][4] = {};
    const int blocks = (k_limit + BK - 1) / BK;
    if (blocks > 0)
        load(0, 0);
    for (int kb = 0; kb < blocks; kb++) {
        if (kb + 1 < blocks) {
            load((kb + 1) & 1, (kb + 1) * BK);
            ptx::copy_wait<1>();
        } else {
            ptx::copy_wait<0>();
        }
        __syncthreads();
        multiply<T, a_mn, b_mn>(acc, tile_a[kb & 1], tile_b[kb & 1]);
        __syncthreads();
    }
    int64_t out0 = form == GENERIC_TN ? e * g.out_stride : (int64_t)row0 * g.ldc;
    store_tile<T>(g, acc, out0, e, row0, m0, m_limit, n0);
}

template <class T, GenericForm form>
cudaError_t launch_form(const GenericArgs *g, const Stream &stream) {
    int m_tiles = form == GENERIC_TN ? g->rows->E * ((g->M + BM - 1) / BM)
                                     : row_tiles_cap(g->rows->cap, g->rows->E);
    dim3 grid((unsigned)m_tiles, (unsigned)((g->N + BN - 1) / BN));
    return launch(stream, {grid, THREADS}, generic_kernel<T, form>, *g, *g->rows);
}

template <class T>
cudaError_t dispatch(GenericForm form, const GenericArgs *g, const Stream &stream) {
    if (form == GENERIC_NT)
        return launch_form<T, GENERIC_NT>(g, stream);
    if (form == GENERIC_NN)
        return launch_form<T, GENERIC_NN>(g, stream);
    return launch_form<T, GENERIC_TN>(g, stream);
}

} // namespace

cudaError_t generic_gemm(int dtype, GenericForm form, const GenericArgs *args,
                         const Stream &stream) {
    return dtype == MOE_BF16 ? dispatch<__nv_bfloat16>(form, args, stream)
                             : dispatch<__half>(form, args, stream);
}
