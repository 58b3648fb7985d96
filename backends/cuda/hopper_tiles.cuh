/* Shared-memory plan, tile order and the accumulators' geometry of the Hopper grouped GEMM. */
#ifndef MOE_CUDA_HOPPER_TILES_CUH
#define MOE_CUDA_HOPPER_TILES_CUH

#include "element.cuh"
#include "hopper_gemm.h"
#include "ptx.cuh"

constexpr uint32_t SLAB_BYTES = 64 * 64 * 2; /* 64 rows of 128 bytes */
constexpr uint32_t A_BYTES = HOPPER_BM * HOPPER_BK * 2;

/* What distinguishes the GEMMs. A and B are the left and right operand of C[M][N]. Shared memory:
 * stages | epilogue slabs of warpgroup 1, of warpgroup 2 | barriers of the stages | turns | tiles
 */
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
    static constexpr uint32_t tiles_at = turns_at + 2 * 8;
    static constexpr uint32_t smem_bytes = tiles_at + 32 * stages;
};

/* Rows 128 m ... and columns Q::columns n ... of expert e's C. */
struct Tile {
    int e, m, n;
    int row0, rows; /* of pairs: the expert's first and how many */
};

template <bool ragged_k>
__device__ __forceinline__ int k_blocks(const HopperArgs &g, const Tile &t) {
    return ragged_k ? (t.rows + HOPPER_BK - 1) / HOPPER_BK : g.k_blocks;
}

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
    /* The tile that a stage is the first of: its producer writes, the consumers read. */
    __device__ __forceinline__ void announce(const Tile &t) const {
        const uint32_t slot = smem + Q::tiles_at + 32 * stage;
        ptx::store4(slot, make_int4(t.e, t.m, t.n, t.row0));
        ptx::store4(slot + 16, make_int4(t.rows, 0, 0, 0));
    }
    __device__ __forceinline__ Tile tile() const {
        const uint32_t slot = smem + Q::tiles_at + 32 * stage;
        const int4 v = ptx::load4(slot), w = ptx::load4(slot + 16);
        return {ptx::uniform(v.x), ptx::uniform(v.y), ptx::uniform(v.z), ptx::uniform(v.w),
                ptx::uniform(w.x)};
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

/* Where the tiles of C that are made begin and end. */
template <bool ragged_k> __device__ __forceinline__ int first_tile(const HopperArgs &g) {
    return ragged_k ? 0 : __ldg(g.tiles_from) * g.n_tiles;
}
template <bool ragged_k> __device__ __forceinline__ int tiles_end(const HopperArgs &g) {
    return (ragged_k ? g.E * g.m_tiles : __ldg(g.tiles_to)) * g.n_tiles;
}

/* How many of them are this CTA's. */
template <bool ragged_k> __device__ __forceinline__ int tiles_of_cta(const HopperArgs &g) {
    const int grid = (int)gridDim.x;
    return (tiles_end<ragged_k>(g) - first_tile<ragged_k>(g) + grid - 1 - (int)blockIdx.x) / grid;
}

/* The tiles of one CTA: blockIdx.x, blockIdx.x + gridDim.x ... in an order that keeps the tiles in
 * flight inside one expert and, there, inside groups of a few row tiles: they share weights and
 * rows in L2. The next tile is found in three steps, so that a producer can do other things while
 * what they look up is on its way. */
template <bool ragged_k> struct TileWalk {
    enum { STEPS = 3, GROUP = 16 }; /* row tiles of a weight gradient's group */
    const HopperArgs &g;
    int id, end, local;
    int2 group; /* its first row tile and height */
    int4 found; /* expert, m, row0, rows */
    Tile tile;
    bool more; /* tile exists */

    __device__ __forceinline__ explicit TileWalk(const HopperArgs &args)
        : g(args), id(first_tile<ragged_k>(args) + (int)blockIdx.x),
          end(tiles_end<ragged_k>(args)) {
        for (int i = 0; i < STEPS; i++)
            step(i);
    }
    __device__ __forceinline__ void step(int i) {
        if (i == 0)
            begin();
        else if (more && i == 1)
            place();
        else if (more)
            settle();
    }

  private:
    __device__ __forceinline__ void begin() {
        more = id < end;
        if (!more)
            return;
        local = id;
        id += (int)gridDim.x;
        if (ragged_k) {
            found.x = local / (g.m_tiles * g.n_tiles);
            local -= found.x * g.m_tiles * g.n_tiles;
            group.x = local / (GROUP * g.n_tiles) * GROUP;
            group.y = min((int)GROUP, g.m_tiles - group.x);
        } else {
            group = __ldg(reinterpret_cast<const int2 *>(&g.tiles[local / g.n_tiles].group0));
        }
    }
    __device__ __forceinline__ void place() {
        local -= group.x * g.n_tiles;
        tile.n = ptx::uniform(local / group.y);
        const int m = group.x + local - tile.n * group.y;
        if (ragged_k) {
            const int row0 = __ldg(g.offsets + found.x);
            found = make_int4(found.x, m, row0, __ldg(g.offsets + found.x + 1) - row0);
        } else {
            found = __ldg(reinterpret_cast<const int4 *>(&g.tiles[m].expert));
        }
    }
    __device__ __forceinline__ void settle() {
        tile.e = ptx::uniform(found.x);
        tile.m = ptx::uniform(found.y);
        tile.row0 = ptx::uniform(found.z);
        tile.rows = ptx::uniform(found.w);
    }
};

/* How dH's epilogue receives H: after a tile's blocks of K its columns pass through the same ring,
 * 64 a stage, as [gate 128 x 64][up 128 x 64][room for A' 128 x 64], each 64 rows a slab. */
static_assert(Gemm<HOPPER_DA_DACT, false>::stage_bytes == 6 * SLAB_BYTES,
              "a stage holds 64 columns of gate, up and A'");

__device__ __forceinline__ int hidden_stages(const HopperArgs &g, const Tile &t) {
    return min(HOPPER_BN / 64, (g.columns - t.n * HOPPER_BN + 63) / 64);
}

#endif
