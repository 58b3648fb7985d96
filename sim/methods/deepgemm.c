/* DeepGEMM: contiguous grouped GEMMs, every expert's rows padded to 128; permutation, activation
 * and combine are kernels of the caller. Forward and data gradients share a kernel; weight
 * gradients have K = f_e. */
#include "../list.h"

static const moe_tile shapes[] = {{128, 64, 1},  {128, 96, 1},  {128, 128, 1}, {128, 160, 1},
                                  {128, 192, 1}, {128, 224, 1}, {128, 256, 1}, {256, 128, 1}};
static const moe_tiles tiles = {shapes, sizeof shapes / sizeof *shapes, 1};

static void forward(moe_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    const double Td = l->T * l->d * e;
    moe_int_list_stream(l, "sort", l->P * 24, l->P * 24);
    moe_int_list_cache(l, Td);
    moe_int_list_cache(l, Pd);
    moe_int_list_stream(l, "X grouped", Pd, Pd);
    moe_int_list_cache(l, Ph);
    moe_int_list_gemm(l, "H", MOE_OP_H, (moe_traffic){.read = Pd, .write = Ph}, &tiles);
    moe_int_list_alloc(l, Pn);
    moe_int_list_stream(l, "A", Ph, Pn);
    moe_int_list_alloc(l, Pd);
    moe_int_list_gemm(l, "Y", MOE_OP_Y, (moe_traffic){.read = Pn, .write = Pd}, &tiles);
    moe_int_list_free(l, Pn);
    moe_int_list_alloc(l, Td);
    moe_int_list_stream(l, "O", Pd, Td);
    moe_int_list_free(l, Pd);
}

static void backward(moe_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    const double Td = l->T * l->d * e;
    moe_int_list_alloc(l, Td + Pd);
    moe_int_list_stream(l, "dY grouped", Pd, Pd);
    moe_int_list_alloc(l, Pn);
    moe_int_list_gemm(l, "dA", MOE_OP_DA, (moe_traffic){.read = Pd, .write = Pn}, &tiles);
    moe_int_list_alloc(l, Ph + Pn);
    moe_int_list_stream(l, "dH", Ph + Pn, Ph + Pn);
    moe_int_list_gemm(l, "dW2", MOE_OP_DW2, (moe_traffic){.read = Pd + Pn}, &tiles);
    moe_int_list_gemm(l, "dXp", MOE_OP_DXP, (moe_traffic){.read = Ph, .write = Pd}, &tiles);
    moe_int_list_gemm(l, "dW1", MOE_OP_DW1, (moe_traffic){.read = Pd + Ph}, &tiles);
    moe_int_list_alloc(l, Td);
    moe_int_list_stream(l, "dX", Pd, Td);
}

const moe_method moe_int_deepgemm = {"deepgemm", "DeepGEMM contiguous grouped GEMMs",
                                     MOE_SYS_DEEPGEMM, forward, backward};
