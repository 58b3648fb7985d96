/* Shared-memory plan, tile order and the accumulators' geometry of the Hopper grouped GEMM. */
#ifndef MOE_CUDA_HOPPER_TILES_CUH
#define MOE_CUDA_HOPPER_TILES_CUH

#include "element.cuh"
#include "hopper_gemm.h"
#include "ptx.cuh"

constexpr uint32_t SLAB_BYTES = 64 * 64 * 2; /* 64 rows of 128 bytes */
constexpr uint32_t A_BYTES = HOPPER_BM * HOPPER_BK * 2;

/* What distinguishes the GEMMs. A and B are the left and right operand of C[M][N]. Shared memory:
 * stages | epilogue slabs of warpgroup 1, of warpgroup 2 | barriers of the stages | turns */
template <HopperOp op_, bool pingpong_> struct Gemm {
    static constexpr HopperOp op = op_;
    static constexpr bool pingpong = pingpong_; /* a warpgroup owns a tile, not half of one */
    static constexpr bool act = op == HOPPER_UP_ACT;
    static constexpr bool dact = op == HOPPER_DA_DACT;
    static constexpr bool ragged_k = op == HOPPER_DW1 || op == HOPPER_DW2;
    static constexpr bool transposed = op == HOPPER_DW1;                   /* how C is stored */
    static constexpr bool gathers = op != HOPPER_DOWN && op != HOPPER_DXP; /* A */
    static constexpr int a_mn_major = ragged_k;
    static constexpr int b_mn_major = !(act || op == HOPPER_UP || op == HOPPER_DOWN);
    /* 16-byte units to the next 16 of K. K-major: 32 bytes along a row. MN-major: 16 rows. */
    static constexpr int a_step = a_mn_major ? 128 : 2, b_step = b_mn_major ? 128 : 2;
    static constexpr int columns = hopper_tile_columns(op, pingpong);
    static constexpr uint32_t stages = 4;
    static constexpr uint32_t slabs = pingpong ? 3 : 2; /* of a warpgroup */
    static constexpr uint32_t b_slabs = (act ? 2 : 1) * columns / 64;
    static constexpr uint32_t stage_bytes = A_BYTES + b_slabs * SLAB_BYTES;
    static constexpr uint32_t slabs_at = stages * stage_bytes;
    static constexpr uint32_t full_at = slabs_at + 2 * slabs * SLAB_BYTES;
    static constexpr uint32_t empty_at = full_at + 8 * stages;
    static constexpr uint32_t turns_at = empty_at + 8 * stages;
    static constexpr uint32_t smem_bytes = turns_at + 2 * 8;
};

/* Position in the ring of stages. */
template <class Q> struct Ring {
    uint32_t smem, stage = 0, phase = 0;
    __device__ __forceinline__ explicit Ring(uint32_t base) : smem(base) {
    }
    __device__ __forceinline__ uint32_t address() const {
        return smem + stage * Q::stage_bytes;
    }
    __device__ __forceinline__ uint32_t full() const {
        return smem + Q::full_at + 8 * stage;
    }
    __device__ __forceinline__ uint32_t empty() const {
        return smem + Q::empty_at + 8 * stage;
    }
    __device__ __forceinline__ void advance() {
        if (++stage == Q::stages) {
            stage = 0;
            phase ^= 1;
        }
    }
    __device__ __forceinline__ void skip(uint32_t count) {
        stage += count;
        phase ^= stage / Q::stages & 1;
        stage %= Q::stages;
    }
};

/* The tiles of one CTA: blockIdx.x, blockIdx.x + gridDim.x ... in an order that keeps the tiles in
 * flight inside one expert and, there, inside groups of 16 row tiles: they share weights and
 * rows in L2. */
template <bool ragged_k> struct TileWalk {
    const HopperArgs *g;
    int id, e, m, n, row0, rows;

    __device__ __forceinline__ explicit TileWalk(const HopperArgs &args)
        : g(&args), id((int)blockIdx.x), e(0) {
    }

    __device__ __forceinline__ bool next() {
        int local, m_tiles;
        if (ragged_k) {
            m_tiles = g->m_tiles;
            e = id / (m_tiles * g->n_tiles);
            if (e >= g->E)
                return false;
            local = id - e * m_tiles * g->n_tiles;
        } else {
            while (e < g->E && id >= __ldg(g->tile_offsets + e + 1) * g->n_tiles)
                e++;
            if (e >= g->E)
                return false;
            int first = __ldg(g->tile_offsets + e);
            m_tiles = __ldg(g->tile_offsets + e + 1) - first;
            local = id - first * g->n_tiles;
        }
        int group = local / (16 * g->n_tiles), in_group = local - group * 16 * g->n_tiles;
        int height = min(16, m_tiles - 16 * group);
        n = ptx::uniform(in_group / height);
        m = ptx::uniform(16 * group + in_group - n * height);
        row0 = ptx::uniform(__ldg(g->offsets + e));
        rows = ptx::uniform(__ldg(g->offsets + e + 1)) - row0;
        id += (int)gridDim.x;
        return true;
    }

    __device__ __forceinline__ int k_blocks() const {
        return ragged_k ? (rows + HOPPER_BK - 1) / HOPPER_BK : g->k_blocks;
    }
};

/* How dH's epilogue receives H: after a tile's blocks of K its columns pass through the same ring,
 * 64 a stage, as [gate 128 x 64][up 128 x 64][room for A' 128 x 64], each 64 rows a slab. */
static_assert(Gemm<HOPPER_DA_DACT, false>::stage_bytes == 6 * SLAB_BYTES,
              "a stage holds 64 columns of gate, up and A'");

__device__ __forceinline__ int hidden_stages(const HopperArgs &g, const TileWalk<false> &w) {
    return min(HOPPER_BN / 64, (g.columns - w.n * HOPPER_BN + 63) / 64);
}

#endif
