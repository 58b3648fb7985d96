/* PyTorch: torch.nn.functional.grouped_mm with everything else left to the framework: an index
 * gather, a compiled SwiGLU, a weighted combine, and autograd of all of them. */
#include <math.h>

#include "../list.h"

/* ATen's CUTLASS kernels: ping-pong 64x128 for few rows, cooperative 128x256 otherwise. */
static const moe_tile shapes[] = {{64, 128, 1}, {128, 128, 1}, {128, 256, 1}};
static const moe_tiles tiles = {shapes, sizeof shapes / sizeof *shapes, 1};

#define INDEX_PUT_PASSES 24 /* fitted to eight backward passes on an H100 */

/* Share of a [T][d] tensor that L2 cannot keep. */
static double outside_l2(const moe_list *l) {
    return fmax(0, 1 - l->r.l2_bytes / (l->T * l->d * l->element));
}

static void forward(moe_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    const double Td = l->T * l->d * e;
    moe_int_list_stream(l, "sort", l->P * 48, l->P * 48);
    moe_int_list_cache(l, Td);
    moe_int_list_cache(l, Pd);
    moe_int_list_stream(l, "X grouped", Pd, Pd);
    moe_int_list_cache(l, Ph);
    moe_int_list_gemm(l, "H", MOE_OP_H, (moe_traffic){.read = Pd, .write = Ph}, &tiles);
    moe_int_list_cache(l, Pn);
    moe_int_list_stream(l, "A", Ph, Pn);
    moe_int_list_cache(l, Pd);
    moe_int_list_gemm(l, "Y", MOE_OP_Y, (moe_traffic){.read = Pn, .write = Pd}, &tiles);
    moe_int_list_alloc(l, Pd + Td);
    moe_int_list_stream(l, "weighted Y", Pd, Pd);
    /* An indexed addition into O: what of O lies outside L2 is read and written for every pair. */
    moe_int_list_stream(l, "O", (1 + 2 * outside_l2(l)) * Pd, Td);
    moe_int_list_free(l, Pd);
}

static void backward(moe_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    const double Td = l->T * l->d * e;
    moe_int_list_alloc(l, Td + 2 * Pd);
    moe_int_list_stream(l, "dO grouped", Pd, Pd);
    moe_int_list_stream(l, "dS", 2 * Pd, Pd);
    moe_int_list_stream(l, "dY", Pd, Pd);
    moe_int_list_alloc(l, Pn);
    moe_int_list_gemm(l, "dA", MOE_OP_DA, (moe_traffic){.read = Pd, .write = Pn}, &tiles);
    moe_int_list_gemm(l, "dW2", MOE_OP_DW2, (moe_traffic){.read = Pd + Pn}, &tiles);
    moe_int_list_alloc(l, Ph);
    moe_int_list_stream(l, "dH", Ph + Pn, Ph);
    moe_int_list_gemm(l, "dXp", MOE_OP_DXP, (moe_traffic){.read = Ph, .write = Pd}, &tiles);
    moe_int_list_gemm(l, "dW1", MOE_OP_DW1, (moe_traffic){.read = Pd + Ph}, &tiles);
    moe_int_list_alloc(l, Td);
    /* The gradient of an index gather is a sorted, accumulating index_put. What of dX lies outside
     * L2 is read and written again for every pair, a sector at a time. */
    moe_int_list_stream(l, "dX", (2 + INDEX_PUT_PASSES * outside_l2(l)) * Pd, Td);
}

const moe_method moe_int_grouped_mm = {"grouped_mm", "PyTorch grouped_mm, the rest by autograd",
                                       MOE_SYS_GROUPED_MM, forward, backward};
