/* MegaBlocks (arXiv 2211.15841), its block-sparse dMoE: tokens copied into groups padded to 128
 * rows, block-sparse GEMMs, activation and un-permutation as kernels of their own. */
#include "../list.h"

static const moe_tile shapes[] = {{128, 128, 1}};
static const moe_tiles tiles = {shapes, 1, 1, .cluster = 1};

static void forward(moe_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    const double Td = l->T * l->d * e;
    moe_int_list_stream(l, "sort", l->P * 24, l->P * 24);
    moe_int_list_cache(l, Td);
    moe_int_list_cache(l, Pd);
    moe_int_list_stream(l, "X grouped", Pd, Pd);
    moe_int_list_cache(l, Ph);
    moe_int_list_gemm(l, "H", MOE_OP_H, (moe_traffic){.read = Pd, .write = Ph}, &tiles);
    moe_int_list_cache(l, Pn);
    moe_int_list_stream(l, "A", Ph, Pn);
    moe_int_list_cache(l, Pd);
    moe_int_list_gemm(l, "Y", MOE_OP_Y, (moe_traffic){.read = Pn, .write = Pd}, &tiles);
    moe_int_list_alloc(l, Td);
    moe_int_list_stream(l, "O", Pd, Td);
}

static void backward(moe_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    const double Td = l->T * l->d * e;
    moe_int_list_alloc(l, Td + Pd);
    moe_int_list_stream(l, "dS", Pd + Td, l->P * 4);
    moe_int_list_stream(l, "dY grouped", Pd, Pd);
    moe_int_list_alloc(l, Pn);
    moe_int_list_gemm(l, "dA", MOE_OP_DA, (moe_traffic){.read = Pd, .write = Pn}, &tiles);
    moe_int_list_gemm(l, "dW2", MOE_OP_DW2, (moe_traffic){.read = Pd + Pn}, &tiles);
    moe_int_list_alloc(l, Ph);
    moe_int_list_stream(l, "dH", Ph + Pn, Ph);
    moe_int_list_gemm(l, "dXp", MOE_OP_DXP, (moe_traffic){.read = Ph, .write = Pd}, &tiles);
    moe_int_list_gemm(l, "dW1", MOE_OP_DW1, (moe_traffic){.read = Pd + Ph}, &tiles);
    moe_int_list_alloc(l, Td);
    moe_int_list_stream(l, "dX", Pd, Td);
}

const moe_method moe_int_megablocks = {"megablocks", "MegaBlocks dMoE: padded groups, block-sparse",
                                       MOE_SYS_MEGABLOCKS, forward, backward};
