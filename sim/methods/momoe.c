/* MoMoE (github.com/tilde-research/MoMoE-impl, momoe/momoe.py) with its default, nothing saved but
 * X: Triton kernels that fuse the gather and SwiGLU into the first GEMM and a scatter into the
 * second; H and Y are computed again in the backward pass. Its grids have a CTA for every row tile
 * that an expert could have, most of them empty: they are not modelled. */
#include "../list.h"

static const moe_tile shapes[] = {{64, 128, 1}, {128, 128, 1}};
static const moe_tiles tiles = {shapes, sizeof shapes / sizeof *shapes, 1, .cluster = 1};

static void forward(moe_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e;
    const double Td = l->T * l->d * e;
    moe_int_list_stream(l, "sort", l->P * 24, l->P * 24);
    moe_int_list_cache(l, Td);
    moe_int_list_alloc(l, Pn);
    moe_int_list_gemm(
        l, "A", MOE_OP_H,
        (moe_traffic){
            .read = Pd, .write = Pn, .epilogue = e * l->n / l->h, .load = MOE_INT_GATHER_LOAD},
        &tiles);
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
    moe_int_list_alloc(l, Td + 2 * Pd);
    moe_int_list_stream(l, "grouped", 2 * Pd, 2 * Pd); /* X and dO */
    moe_int_list_alloc(l, Ph + Pn);
    /* One kernel computes dA and then H, which it keeps to itself. */
    moe_int_list_gemm(l, "H", MOE_OP_H, (moe_traffic){.read = Pd, .epilogue = e / 100}, &tiles);
    moe_int_list_gemm(
        l, "dH", MOE_OP_DA,
        (moe_traffic){.read = Pd, .write = Ph + Pn, .epilogue = e * (1 + l->h / l->n)}, &tiles);
    moe_int_list_gemm(l, "dW2", MOE_OP_DW2, (moe_traffic){.read = Pd + Pn}, &tiles);
    moe_int_list_free(l, Pd);
    moe_int_list_gemm(l, "dW1", MOE_OP_DW1, (moe_traffic){.read = Pd + Ph}, &tiles);
    moe_int_list_free(l, Pd);
    moe_int_list_alloc(l, Pd);
    /* Another computes dX~ and then Y, for <dO, Y>. */
    moe_int_list_gemm(l, "dXp", MOE_OP_DXP, (moe_traffic){.read = Ph, .write = Pd}, &tiles);
    moe_int_list_gemm(l, "Y", MOE_OP_Y,
                      (moe_traffic){.read = Pn + Pd, .write = l->P * 4, .epilogue = e}, &tiles);
    moe_int_list_alloc(l, Td);
    moe_int_list_stream(l, "dX", Pd, Td);
}

const moe_method moe_int_momoe = {"momoe", "MoMoE: Triton, fused SwiGLU, H and Y recomputed",
                                  MOE_SYS_MOMOE, forward, backward};
