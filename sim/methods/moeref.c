/* The project's own CUDA backend: SonicMoE's dataflow with TMA stores, a separate
 * gather-and-sum, and deterministic weight gradients. */
#include "../list.h"

static const moe_tile shapes[] = {{128, 128, 1}, {128, 192, 1}, {128, 256, 1}, {256, 128, 1}};
static const moe_tiles tiles = {shapes, sizeof shapes / sizeof *shapes, 1};

static void forward(moe_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    moe_int_list_stream(l, "plan", l->P * 12, l->P * 16);
    moe_int_list_cache(l, l->T * l->d * e);
    moe_int_list_cache(l, Ph);
    moe_int_list_alloc(l, Pn);
    moe_int_list_gemm(l, "A", MOE_OP_H,
                      (moe_traffic){.read = Pd,
                                    .write = Ph + Pn,
                                    .epilogue = e * (1 + l->n / l->h),
                                    .load = MOE_INT_GATHER_LOAD},
                      &tiles);
    moe_int_list_alloc(l, Pd);
    moe_int_list_gemm(l, "Y", MOE_OP_Y, (moe_traffic){.read = Pn, .write = Pd}, &tiles);
    moe_int_list_free(l, Pn);
    moe_int_list_alloc(l, l->T * l->d * e);
    moe_int_list_stream(l, "O", Pd + l->P * 12, l->T * l->d * e);
    moe_int_list_free(l, Pd);
}

static void backward(moe_list *l) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    moe_int_list_alloc(l, l->T * l->d * e);
    moe_int_list_alloc(l, Ph + Pn);
    moe_int_list_gemm(l, "dH", MOE_OP_DA,
                      (moe_traffic){.read = Pd + Ph + l->P * 4,
                                    .write = Ph + Pn + l->P * 4,
                                    .epilogue = e * (1 + 2 * l->h / l->n),
                                    .load = MOE_INT_GATHER_LOAD},
                      &tiles);
    moe_int_list_free(l, Ph);
    moe_int_list_gemm(l, "dW2", MOE_OP_DW2,
                      (moe_traffic){.read = Pd + Pn, .load = MOE_INT_GATHER_LOAD}, &tiles);
    moe_int_list_free(l, Pn);
    moe_int_list_alloc(l, Pd);
    moe_int_list_gemm(l, "dXp", MOE_OP_DXP, (moe_traffic){.read = Ph, .write = Pd}, &tiles);
    moe_int_list_alloc(l, l->T * l->d * e);
    moe_int_list_stream(l, "dX", Pd + l->P * 8, l->T * l->d * e);
    moe_int_list_free(l, Pd);
    moe_int_list_gemm(l, "dW1", MOE_OP_DW1,
                      (moe_traffic){.read = Pd + Ph, .load = MOE_INT_GATHER_LOAD}, &tiles);
}

const moe_method moe_int_moeref = {"moeref", "this project's own CUDA backend, as designed",
                                   MOE_SYS_MOEREF, forward, backward};
