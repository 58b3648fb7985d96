/* DeepGEMM (github.com/deepseek-ai/DeepGEMM) as SonicMoE's paper builds a layer on it, there called
 * DeepGEMM++: contiguous grouped GEMMs, every expert's rows padded to 128; gather, SwiGLU and
 * combine are good kernels of the caller, and one computes dSwiGLU, dS and A' together. Weight
 * gradients, K = f_e, are added in fp32 to what is there (csrc/apis/gemm.hpp,
 * k_grouped_bf16_gemm_tn_contiguous; TMA reductions), so that they are zeroed before and rounded
 * to the weights' type after. */
#include "sim/gpus/storage.h"
#include "sim/methods/methods.h"
#include "sim/methods/padded.h"

/* Rows of a group lie in tiles of 128; those of a weight gradient are as free as its columns. */
static const moe_int_tile row_shapes[] = {{128, 64, 1},  {128, 96, 1},  {128, 128, 1},
                                          {128, 160, 1}, {128, 192, 1}, {128, 224, 1},
                                          {128, 256, 1}},
                          depth_shapes[] = {{128, 128, 1}, {128, 256, 1}, {256, 128, 1}};
static const moe_int_tiles rows = {row_shapes, sizeof row_shapes / sizeof *row_shapes, 1},
                           depth = {depth_shapes, sizeof depth_shapes / sizeof *depth_shapes, 1};

static void forward(moe_int_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, padded = moe_int_padded_rows(l) * e;
    const double Rd = padded * l->d, Rh = padded * l->h, Td = l->T * l->d * e;
    /* The caller's kernels write what the products read. */
    const double Xo = Rd / e * l->operand, Ao = padded / e * l->n * l->operand;
    moe_int_list_stream(l, MOE_STAGE_SORT, l->P * 24, l->P * 24);
    moe_int_list_cache(l, "X", Td);
    moe_int_list_cache(l, "X~", Xo);
    moe_int_list_stream(l, MOE_STAGE_X_GROUPED, Pd, Xo);
    moe_int_list_cache(l, "H", Rh);
    moe_int_list_gemm(l, MOE_STAGE_H, MOE_INT_OP_H, (moe_int_traffic){.read = Xo, .write = Rh},
                      &rows);
    moe_int_list_alloc(l, "A", Ao);
    moe_int_list_stream(l, MOE_STAGE_A, Rh, Ao);
    moe_int_list_alloc(l, "Y", Rd);
    moe_int_list_gemm(l, MOE_STAGE_Y, MOE_INT_OP_Y, (moe_int_traffic){.read = Ao, .write = Rd},
                      &rows);
    moe_int_list_free(l, "A");
    moe_int_list_alloc(l, "O", Td);
    moe_int_list_stream(l, MOE_STAGE_O, Pd, Td);
    moe_int_list_free(l, "Y");
}

/* A weight gradient of `weights` bytes in the weights' own type, of two bytes an element. */
static void deep(moe_int_list *l, const moe_stage stages[3], moe_int_op op, double read,
                 double weights) {
    const double fp32 = weights * 4 / l->element;
    moe_int_list_alloc(l, "dW fp32", fp32);
    moe_int_list_stream(l, stages[0], 0, fp32);
    moe_int_list_gemm(
        l, stages[1], op,
        (moe_int_traffic){.read = read + fp32, .write = fp32 - weights, .epilogue = 4}, &depth);
    moe_int_list_stream(l, stages[2], fp32, weights);
    moe_int_list_free(l, "dW fp32");
}

static void backward(moe_int_list *l) {
    static const moe_stage dw2[] = {MOE_STAGE_ZERO_DW2, MOE_STAGE_DW2, MOE_STAGE_DW2_BF16},
                           dw1[] = {MOE_STAGE_ZERO_DW1, MOE_STAGE_DW1, MOE_STAGE_DW1_BF16};
    const double e = l->element, Pd = l->P * l->d * e, padded = moe_int_padded_rows(l) * e;
    const double Rd = padded * l->d, Rn = padded * l->n, Rh = padded * l->h, Td = l->T * l->d * e;
    const double w2 = l->E * l->n * l->d * e, w1 = w2 * l->h / l->n;
    moe_int_list_alloc(l, "dO", Td);
    moe_int_list_alloc(l, "dY", Rd);
    moe_int_list_stream(l, MOE_STAGE_DY_GROUPED, Pd, Rd);
    moe_int_list_alloc(l, "dA", Rn);
    moe_int_list_gemm(l, MOE_STAGE_DA, MOE_INT_OP_DA, (moe_int_traffic){.read = Rd, .write = Rn},
                      &rows);
    moe_int_list_alloc(l, "dH", Rh);
    moe_int_list_alloc(l, "A'", Rn);
    moe_int_list_stream(l, MOE_STAGE_DH, Rh + Rn, Rh + Rn);
    deep(l, dw2, MOE_INT_OP_DW2, Rd + Rn, w2);
    moe_int_list_gemm(l, MOE_STAGE_DXP, MOE_INT_OP_DXP, (moe_int_traffic){.read = Rh, .write = Rd},
                      &rows);
    deep(l, dw1, MOE_INT_OP_DW1, Rd + Rh, w1);
    moe_int_list_alloc(l, "dX", Td);
    moe_int_list_stream(l, MOE_STAGE_DX, Pd, Td);
}

const moe_int_method moe_int_method_deepgemm = {"DeepGEMM contiguous grouped GEMMs", forward,
                                                backward, .storages = MOE_INT_STORAGE_FP8S,
                                                .arch = {90, 103}};
