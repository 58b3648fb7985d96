/* MoMoE: Triton kernels that fuse the gather and SwiGLU into the first GEMM and the weighted
 * scatter into the second; H is computed again in the backward pass. */
#include "../list.h"

static const moe_tile shapes[] = {{64, 128, 1}, {128, 128, 1}};
static const moe_tiles tiles = {shapes, sizeof shapes / sizeof *shapes, 1, .cluster = 1};

static void forward(moe_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e;
    const double Td = l->T * l->d * e;
    moe_int_list_stream(l, "sort", l->P * 24, l->P * 24);
    moe_int_list_cache(l, Td);
    moe_int_list_cache(l, Pn);
    moe_int_list_gemm(
        l, "A", MOE_OP_H,
        (moe_traffic){
            .read = Pd, .write = Pn, .epilogue = e * l->n / l->h, .load = MOE_INT_GATHER_LOAD},
        &tiles);
    moe_int_list_alloc(l, Td);
    /* Rows are added to O by atomics: read, add, write. */
    moe_int_list_gemm(l, "O", MOE_OP_Y,
                      (moe_traffic){.read = Pn + Pd, .write = Pd, .epilogue = 2 * e}, &tiles);
}

static void backward(moe_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    const double Td = l->T * l->d * e;
    moe_int_list_alloc(l, Td + Ph + Pn);
    moe_int_list_gemm(l, "H", MOE_OP_H,
                      (moe_traffic){.read = Pd, .write = Ph, .load = MOE_INT_GATHER_LOAD}, &tiles);
    moe_int_list_gemm(l, "dA", MOE_OP_DA,
                      (moe_traffic){.read = Pd, .write = Pn, .load = MOE_INT_GATHER_LOAD}, &tiles);
    moe_int_list_stream(l, "dH", Ph + Pn, Ph + Pn);
    moe_int_list_gemm(l, "dW2", MOE_OP_DW2,
                      (moe_traffic){.read = Pd + Pn, .load = MOE_INT_GATHER_LOAD}, &tiles);
    moe_int_list_gemm(l, "dW1", MOE_OP_DW1,
                      (moe_traffic){.read = Pd + Ph, .load = MOE_INT_GATHER_LOAD}, &tiles);
    moe_int_list_alloc(l, Td);
    moe_int_list_gemm(l, "dX", MOE_OP_DXP,
                      (moe_traffic){.read = Ph + Pd, .write = Pd, .epilogue = 2 * e}, &tiles);
}

const moe_method moe_int_momoe = {"momoe", "MoMoE: Triton, fused SwiGLU, recomputed H",
                                  MOE_SYS_MOMOE, forward, backward};
