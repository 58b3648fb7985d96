/* The Hopper grouped GEMM: what a launch needs. K in blocks of 64. */
#ifndef MOE_CUDA_HOPPER_GEMM_H
#define MOE_CUDA_HOPPER_GEMM_H

#include "kernels.h"

#include <cuda.h>
#include <cuda_runtime.h>

/* The six GEMMs of the layer, and a plain up-projection for ungated activations. */
enum HopperOp {
    HOPPER_UP_ACT,  /* H = X_e W1^T, A = act(H) */
    HOPPER_UP,      /* H = X_e W1^T */
    HOPPER_DOWN,    /* Y = A W2^T */
    HOPPER_DA_DACT, /* dA' = dO_e W2; dS, A', dH */
    HOPPER_DXP,     /* dX~ = dH W1 */
    HOPPER_DW2,     /* dW2_e = dO_e^T A' */
    HOPPER_DW1,     /* dW1_e^T = X_e^T dH, stored transposed */
    HOPPER_OPS
};

/* Tensor maps. Weights: {columns, rows, expert}. Tensors of pairs: {columns,
 * row + rows_cap - (end of the expert), end of the expert}, whose middle index leaves the map
 * where the expert ends, so that loads read zeros there and stores write nothing. A box wholly
 * outside must not be asked for: the hardware then touches memory near the map's base, which lies
 * below the buffer. An MN-major B comes 64 columns a slab: {column in the slab, as above, slab}. */
struct HopperArgs {
    CUtensorMap a, b;     /* operands; unused where an operand is gathered */
    CUtensorMap out[3];   /* plain: C; act: gate, up, A; dact: dgate, dup, A' */
    CUtensorMap in[2];    /* dact: gate and up of H */
    const int *offsets;   /* [E+1] first row of each expert */
    const RowTile *tiles; /* the list */
    /* Row tiles *tiles_from ... *tiles_to - 1 of the list are made; by weight gradients all. */
    const int *tiles_from, *tiles_to;
    const int *token;       /* [P] token of each row */
    const void *gather;     /* [T][gather_width] source of the gathered operand */
    const void *bias;       /* [E][columns of C, or 2n] or NULL */
    const float *row_scale; /* up: H = scale * acc + bias, or NULL */
    const float *weight;    /* dact: combine weights, or NULL for 1 */
    float *ds_part;         /* dact: [n_tiles][rows_cap] row sums of dA' * A */
    int E;
    int rows_cap, gather_width;
    int columns;         /* of C; n for act and dact */
    int m_tiles;         /* weight gradients: row tiles of one expert */
    int n_tiles;         /* columns over hopper_tile_columns(), rounded up */
    int k_blocks;        /* other GEMMs: blocks of K */
    bool skips_hidden;   /* act: H is not stored, A alone */
    WeightTarget target; /* weight gradients: C goes there if it has an address, else to out */
    int target_rows;     /* of C; then nothing clips them */
    bool pingpong;       /* warpgroups take turns with tiles, see hopper_tile_columns() */
    ActParams act;
};

enum { HOPPER_BM = 128, HOPPER_BN = 256, HOPPER_BK = 64 };
static_assert((int)HOPPER_BM == BUFFER_TILE_ROWS && (int)HOPPER_BN == BUFFER_DS_COLUMNS,
              "buffers.h counts tiles and partial sums of dS");

/* A CTA: the producer's warpgroup, then two that consume. */
enum {
    HOPPER_WARPGROUP = 128, /* threads */
    HOPPER_WARPGROUP_WARPS = 4,
    HOPPER_CONSUMERS = 2, /* warpgroups */
    HOPPER_THREADS = (1 + HOPPER_CONSUMERS) * HOPPER_WARPGROUP
};

/* Columns of C per tile; of each of gate and up for the activation's GEMM. Two warpgroups share a
 * tile, or, taking turns, each holds 128 x 192 in its registers: DOWN and DXP know both. */
__host__ __device__ constexpr int hopper_tile_columns(HopperOp op, bool pingpong) {
    return op == HOPPER_UP_ACT ? 128 : pingpong ? 192 : 256;
}

/* Launches on `stream` with one CTA per multiprocessor. */
cudaError_t hopper_gemm_bf16(HopperOp op, const HopperArgs *args, int sms, const Stream &stream);
cudaError_t hopper_gemm_f16(HopperOp op, const HopperArgs *args, int sms, const Stream &stream);

#endif
