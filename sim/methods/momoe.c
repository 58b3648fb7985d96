/* MoMoE (github.com/tilde-research/MoMoE-impl, momoe/momoe.py) with its default, nothing saved but
 * X: Triton kernels that fuse the gather and SwiGLU into the first GEMM and a scatter into the
 * second; H and Y are computed again in the backward pass. Its grids have a CTA for every row tile
 * that an expert could have if all tokens went to it, so that all but one of E/K find nothing to
 * do: where experts are many that is most of the time. */
#include "sim/methods/methods.h"
#include "sim/methods/padded.h"

#include <math.h>

/* A CTA of the first GEMM holds both halves of its columns of H. The configurations that its
 * autotuner may pick have tiles of 64 rows too, which double the empty CTAs. */
static const moe_int_tile pair_shape[] = {{128, 256, 1}}, square_shape[] = {{128, 128, 1}};
static const moe_int_tiles pair = {pair_shape, 1, 1, .cluster = 1},
                           square = {square_shape, 1, 1, .cluster = 1};

/* Passes over an array [E][T] of four bytes in which the router makes the mask and the scores of
 * all experts that the layer starts from (momoe/topk_router.py). */
#define MASK_PASSES 26

/* CTAs that read where their expert's rows begin and end, and return: each keeps its place on an SM
 * for as long as a tile takes to start, and for one latency of L2. A GEMM's CTA has an SM's shared
 * memory for itself; of the copy's, without any, 2048 threads fit. */
#define GEMM_PLACES 1
#define COPY_PLACES 8
static void empty(moe_int_list *l, moe_stage stage, double rows, double columns, double places) {
    double tiles = l->E * ceil(l->T / rows);
    for (int64_t e = 0; e < (int64_t)l->E; e++)
        tiles -= ceil((double)l->counts[e] / rows);
    moe_int_list_slow(l, stage, 0, 0, tiles * columns,
                      places / (l->r.tile_us * l->r.clock + l->r.l2_latency));
}

static void forward(moe_int_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e;
    const double Td = l->T * l->d * e, mask = l->E * l->T * 4;
    moe_int_list_stream(l, MOE_STAGE_MASK, MASK_PASSES / 2.0 * mask, MASK_PASSES / 2.0 * mask);
    moe_int_list_stream(l, MOE_STAGE_COUNT_TOKENS, mask, l->E * 8);
    moe_int_list_stream(l, MOE_STAGE_SORT, mask, l->P * 8);
    moe_int_list_cache(l, "X", Td);
    moe_int_list_alloc(l, "A", Pn);
    moe_int_list_gemm(
        l, MOE_STAGE_A, MOE_INT_OP_H,
        (moe_int_traffic){
            .read = Pd, .write = Pn, .epilogue = e * l->n / l->h, .load = MOE_INT_GATHER_LOAD},
        &pair);
    empty(l, MOE_STAGE_A_EMPTY, 128, ceil(l->n / 128), GEMM_PLACES);
    moe_int_list_alloc(l, "Y", Pd);
    moe_int_list_gemm(l, MOE_STAGE_Y, MOE_INT_OP_Y, (moe_int_traffic){.read = Pn, .write = Pd},
                      &square);
    empty(l, MOE_STAGE_Y_EMPTY, 128, ceil(l->d / 128), GEMM_PLACES);
    moe_int_list_free(l, "A");
    moe_int_list_alloc(l, "O", Td);
    moe_int_list_slow(l, MOE_STAGE_O, Pd, Td, l->T * l->d, MOE_INT_SUM_RATE);
    moe_int_list_free(l, "Y");
}

static void backward(moe_int_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    const double Td = l->T * l->d * e;
    moe_int_list_alloc(l, "dO", Td);
    moe_int_list_alloc(l, "X~", Pd);
    moe_int_list_alloc(l, "dO~", Pd);
    moe_int_list_stream(l, MOE_STAGE_GROUPED, 2 * Pd, 2 * Pd); /* X and dO */
    empty(l, MOE_STAGE_GROUPED_EMPTY, 64, ceil(l->d / 512), COPY_PLACES);
    moe_int_list_alloc(l, "dH", Ph);
    moe_int_list_alloc(l, "A'", Pn);
    /* One kernel computes dA and then H, which it keeps to itself. */
    moe_int_list_gemm(l, MOE_STAGE_H, MOE_INT_OP_H,
                      (moe_int_traffic){.read = Pd, .epilogue = e / 100, .recomputes = true},
                      &pair);
    moe_int_list_gemm(
        l, MOE_STAGE_DH, MOE_INT_OP_DA,
        (moe_int_traffic){.read = Pd, .write = Ph + Pn, .epilogue = e * (1 + l->h / l->n)},
        &square);
    empty(l, MOE_STAGE_DH_EMPTY, 128, ceil(l->n / 128), GEMM_PLACES);
    moe_int_list_gemm(l, MOE_STAGE_DW2, MOE_INT_OP_DW2, (moe_int_traffic){.read = Pd + Pn},
                      &square);
    moe_int_list_free(l, "dO~");
    moe_int_list_gemm(l, MOE_STAGE_DW1, MOE_INT_OP_DW1, (moe_int_traffic){.read = Pd + Ph},
                      &square);
    moe_int_list_free(l, "X~");
    moe_int_list_stream(l, MOE_STAGE_ZERO_DS, 0, l->E * l->T * 4);
    moe_int_list_alloc(l, "dX~", Pd);
    /* Another computes dX~ and then Y, for <dO, Y>. */
    moe_int_list_gemm(l, MOE_STAGE_DXP, MOE_INT_OP_DXP, (moe_int_traffic){.read = Ph, .write = Pd},
                      &square);
    moe_int_list_gemm(
        l, MOE_STAGE_Y_AGAIN, MOE_INT_OP_Y,
        (moe_int_traffic){.read = Pn + Pd, .write = l->P * 4, .epilogue = e, .recomputes = true},
        &square);
    empty(l, MOE_STAGE_DXP_EMPTY, 128, ceil(l->d / 128), GEMM_PLACES);
    moe_int_list_alloc(l, "dX", Td);
    moe_int_list_slow(l, MOE_STAGE_DX, Pd, Td, l->T * l->d, MOE_INT_SUM_RATE);
}

const moe_int_method moe_int_method_momoe = {"MoMoE: Triton, fused SwiGLU, H and Y recomputed",
                                             forward, backward};
