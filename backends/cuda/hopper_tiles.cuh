/* Shared-memory plan, tile order and the accumulators' geometry of the Hopper grouped GEMM. */
#ifndef MOE_CUDA_HOPPER_TILES_CUH
#define MOE_CUDA_HOPPER_TILES_CUH

#include "element.cuh"
#include "hopper_gemm.h"
#include "ptx.cuh"

constexpr uint32_t SLAB_BYTES = 64 * 64 * 2; /* 64 rows of 128 bytes */
constexpr uint32_t A_BYTES = HOPPER_BM * HOPPER_BK * 2;
constexpr uint32_t B_BYTES = HOPPER_BN * HOPPER_BK * 2;
constexpr uint32_t STAGE_BYTES = A_BYTES + B_BYTES;

/* What distinguishes the GEMMs. A and B are the left and right operand of C[M][N]. */
template <HopperOp op> struct Traits {
    static constexpr bool act = op == HOPPER_UP_ACT;
    static constexpr bool dact = op == HOPPER_DA_DACT;
    static constexpr bool ragged_k = op == HOPPER_DW1 || op == HOPPER_DW2;
    static constexpr bool transposed = op == HOPPER_DW1;                   /* how C is stored */
    static constexpr bool gathers = op != HOPPER_DOWN && op != HOPPER_DXP; /* A */
    static constexpr int a_mn_major = ragged_k;
    static constexpr int b_mn_major = !(act || op == HOPPER_UP || op == HOPPER_DOWN);
};

/* Shared memory: stages | two epilogue slabs of warpgroup 1, of warpgroup 2 | barriers */
constexpr uint32_t STAGES = 4;
constexpr uint32_t SLABS_AT = STAGES * STAGE_BYTES;
constexpr uint32_t FULL_AT = SLABS_AT + 4 * SLAB_BYTES;
constexpr uint32_t EMPTY_AT = FULL_AT + 8 * STAGES;
constexpr uint32_t SMEM_BYTES = EMPTY_AT + 8 * STAGES;

/* Position in the ring of stages. */
struct Ring {
    uint32_t smem, stage = 0, phase = 0;
    __device__ __forceinline__ explicit Ring(uint32_t base) : smem(base) {
    }
    __device__ __forceinline__ uint32_t address() const {
        return smem + stage * STAGE_BYTES;
    }
    __device__ __forceinline__ uint32_t full() const {
        return smem + FULL_AT + 8 * stage;
    }
    __device__ __forceinline__ uint32_t empty() const {
        return smem + EMPTY_AT + 8 * stage;
    }
    __device__ __forceinline__ void advance() {
        if (++stage == STAGES) {
            stage = 0;
            phase ^= 1;
        }
    }
};

/* The tiles of one CTA: blockIdx.x, blockIdx.x + gridDim.x ... in an order that keeps the tiles in
 * flight inside one expert and, there, inside groups of 16 row tiles: they share weights and
 * rows in L2. */
template <bool ragged_k> struct TileWalk {
    const HopperArgs &g;
    int id, e, m, n, row0, rows;

    __device__ __forceinline__ explicit TileWalk(const HopperArgs &args)
        : g(args), id((int)blockIdx.x), e(0) {
    }

    __device__ __forceinline__ bool next() {
        int local, m_tiles;
        if (ragged_k) {
            m_tiles = g.m_tiles;
            e = id / (m_tiles * g.n_tiles);
            if (e >= g.E)
                return false;
            local = id - e * m_tiles * g.n_tiles;
        } else {
            while (e < g.E && id >= __ldg(g.tile_offsets + e + 1) * g.n_tiles)
                e++;
            if (e >= g.E)
                return false;
            int first = __ldg(g.tile_offsets + e);
            m_tiles = __ldg(g.tile_offsets + e + 1) - first;
            local = id - first * g.n_tiles;
        }
        int group = local / (16 * g.n_tiles), in_group = local - group * 16 * g.n_tiles;
        int height = min(16, m_tiles - 16 * group);
        n = in_group / height;
        m = 16 * group + in_group - n * height;
        row0 = __ldg(g.offsets + e);
        rows = __ldg(g.offsets + e + 1) - row0;
        id += (int)gridDim.x;
        return true;
    }

    __device__ __forceinline__ int k_blocks() const {
        return ragged_k ? (rows + HOPPER_BK - 1) / HOPPER_BK : g.k_blocks;
    }
};

/* How dH's epilogue receives H: after a tile's blocks of K its columns pass through the same ring,
 * 64 a stage, as [gate 128 x 64][up 128 x 64][room for A' 128 x 64], each 64 rows a slab. */
static_assert(STAGE_BYTES == 6 * SLAB_BYTES, "a stage holds 64 columns of gate, up and A'");

__device__ __forceinline__ int hidden_stages(const HopperArgs &g, const TileWalk<false> &w) {
    return min(HOPPER_BN / 64, (g.columns - w.n * HOPPER_BN + 63) / 64);
}

#endif
