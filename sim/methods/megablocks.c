/* MegaBlocks (arXiv 2211.15841), ParallelDroplessMLP with SparseGLU (megablocks/layers/dmoe.py and
 * glu.py, backend/kernels.py; stk/backend/triton_kernels.py): tokens copied into zeroed groups
 * padded to 128 rows, a block-sparse GEMM for each of the two up-projections, activation, product
 * and un-permutation as kernels of their own, all of it through autograd. The gather waits on the
 * host for the padded size, and in the forward pass the small kernels of the topology come next,
 * one by one: the device idles there, for fixed_us. */
#include "sim/methods/methods.h"
#include "sim/methods/padded.h"

static const moe_int_tile shapes[] = {{128, 128, 1}};
static const moe_int_tiles tiles = {shapes, 1, 1, .cluster = 1};

/* Un-permutation: rows back to (token, choice), and their sum. */
static void scatter(moe_int_list *l, moe_stage copy, moe_stage sum) {
    const double Pd = l->P * l->d * l->element, Td = l->T * l->d * l->element;
    moe_int_list_stream(l, copy, Pd, Pd);
    if (l->P > l->T)
        moe_int_list_slow(l, sum, Pd, Td, l->T * l->d, MOE_INT_SUM_RATE);
}

static void forward(moe_int_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, rows = moe_int_padded_rows(l) * e;
    const double Rd = rows * l->d, Rn = rows * l->n, Td = l->T * l->d * e;
    moe_int_list_stream(l, MOE_STAGE_SORT, l->P * 24, l->P * 24);
    moe_int_list_cache(l, "X", Td);
    moe_int_list_cache(l, "X~", Rd);
    moe_int_list_stream(l, MOE_STAGE_ZERO_X, 0, Rd);
    moe_int_list_stream(l, MOE_STAGE_X_GROUPED, Pd, Pd);
    moe_int_list_cache(l, "H gate", Rn);
    moe_int_list_gemm(l, MOE_STAGE_H_GATE, MOE_INT_OP_DA,
                      (moe_int_traffic){.read = Rd, .write = Rn}, &tiles);
    if (l->h > l->n) {
        moe_int_list_cache(l, "H up", Rn);
        moe_int_list_gemm(l, MOE_STAGE_H_UP, MOE_INT_OP_DA,
                          (moe_int_traffic){.read = Rd, .write = Rn}, &tiles);
    }
    moe_int_list_cache(l, "silu", Rn);
    moe_int_list_stream(l, MOE_STAGE_SILU, Rn, Rn);
    if (l->h > l->n) {
        moe_int_list_cache(l, "A", Rn);
        moe_int_list_stream(l, MOE_STAGE_A, 2 * Rn, Rn);
    }
    moe_int_list_cache(l, "Y", Rd);
    moe_int_list_gemm(l, MOE_STAGE_Y, MOE_INT_OP_Y, (moe_int_traffic){.read = Rn, .write = Rd},
                      &tiles);
    moe_int_list_alloc(l, "Y by token", Pd);
    moe_int_list_alloc(l, "O", Td);
    scatter(l, MOE_STAGE_Y_BY_TOKEN, MOE_STAGE_O);
    moe_int_list_free(l, "Y by token");
}

static void backward(moe_int_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, rows = moe_int_padded_rows(l) * e;
    const double Rd = rows * l->d, Rn = rows * l->n, Td = l->T * l->d * e;
    moe_int_list_alloc(l, "dO", Td);
    moe_int_list_alloc(l, "dY", Rd);
    moe_int_list_stream(l, MOE_STAGE_ZERO_DY, 0, Rd);
    moe_int_list_stream(l, MOE_STAGE_DY_GROUPED, Pd, Pd);
    moe_int_list_stream(l, MOE_STAGE_DS, 2 * Pd, l->P * 4);
    moe_int_list_alloc(l, "dA", Rn);
    moe_int_list_gemm(l, MOE_STAGE_DA, MOE_INT_OP_DA, (moe_int_traffic){.read = Rd, .write = Rn},
                      &tiles);
    moe_int_list_gemm(l, MOE_STAGE_DW2, MOE_INT_OP_DW2, (moe_int_traffic){.read = Rd + Rn}, &tiles);
    if (l->h > l->n) {
        moe_int_list_alloc(l, "d silu", Rn);
        moe_int_list_alloc(l, "dH up", Rn);
        moe_int_list_stream(l, MOE_STAGE_D_SILU, 2 * Rn, Rn);
        moe_int_list_stream(l, MOE_STAGE_D_UP, 2 * Rn, Rn);
        moe_int_list_alloc(l, "dX~ up", Rd);
        moe_int_list_gemm(l, MOE_STAGE_DXP_UP, MOE_INT_OP_Y,
                          (moe_int_traffic){.read = Rn, .write = Rd}, &tiles);
        moe_int_list_gemm(l, MOE_STAGE_DW1_UP, MOE_INT_OP_DW2, (moe_int_traffic){.read = Rd + Rn},
                          &tiles);
    }
    moe_int_list_alloc(l, "dH gate", Rn);
    moe_int_list_alloc(l, "dX~ gate", Rd);
    moe_int_list_stream(l, MOE_STAGE_D_GATE, 2 * Rn, Rn);
    moe_int_list_gemm(l, MOE_STAGE_DXP_GATE, MOE_INT_OP_Y,
                      (moe_int_traffic){.read = Rn, .write = Rd}, &tiles);
    moe_int_list_gemm(l, MOE_STAGE_DW1_GATE, MOE_INT_OP_DW2, (moe_int_traffic){.read = Rd + Rn},
                      &tiles);
    if (l->h > l->n)
        moe_int_list_stream(l, MOE_STAGE_DXP, 2 * Rd, Rd); /* the sum of the two */
    moe_int_list_alloc(l, "dX~ by token", Pd);
    moe_int_list_alloc(l, "dX", Td);
    scatter(l, MOE_STAGE_DXP_BY_TOKEN, MOE_STAGE_DX);
}

const moe_int_method moe_int_method_megablocks = {"MegaBlocks dMoE: padded groups, block-sparse",
                                                  forward, backward, .host_first = true,
                                                  .arch = {80, 120}};
