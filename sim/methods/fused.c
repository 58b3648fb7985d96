#include "sim/methods/fused.h"

#include <math.h>

/* O or dX. */
static void sum_rows(moe_int_list *l, const moe_int_fused *f, moe_stage stage, double read) {
    const double write = l->T * l->d * l->element;
    if (f->rounds_us)
        moe_int_list_rounds(l, stage, read, write, f->rounds_us(l));
    else
        moe_int_list_stream(l, stage, read, write);
}

void moe_int_fused_forward(moe_int_list *l, const moe_int_fused *f) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    moe_int_list_cache(l, "X", l->T * l->d * e);
    moe_int_list_cache(l, "H", Ph);
    moe_int_list_alloc(l, "A", Pn);
    moe_int_list_gemm(l, MOE_STAGE_A, MOE_INT_OP_H,
                      (moe_int_traffic){.read = Pd,
                                        .write = Ph + Pn,
                                        .epilogue = e * (1 + l->n / l->h),
                                        .load = MOE_INT_GATHER_LOAD},
                      f->a);
    moe_int_list_alloc(l, "Y", Pd);
    moe_int_list_gemm(l, MOE_STAGE_Y, MOE_INT_OP_Y, (moe_int_traffic){.read = Pn, .write = Pd},
                      f->y);
    moe_int_list_free(l, "A");
    moe_int_list_alloc(l, "O", l->T * l->d * e);
    sum_rows(l, f, MOE_STAGE_O, Pd + l->P * 12);
    moe_int_list_free(l, "Y");
}

void moe_int_fused_backward(moe_int_list *l, const moe_int_fused *f) {
    const double e = l->element, Pd = l->P * l->d * e, Pn = l->P * l->n * e, Ph = l->P * l->h * e;
    const double parts = ceil(l->n / f->ds_columns);
    moe_int_list_alloc(l, "dO", l->T * l->d * e);
    moe_int_list_alloc(l, "dH", Ph);
    moe_int_list_alloc(l, "A'", Pn);
    moe_int_list_gemm(l, MOE_STAGE_DH, MOE_INT_OP_DA,
                      (moe_int_traffic){.read = Pd + Ph + l->P * 4,
                                        .write = Ph + Pn + l->P * 4 * parts,
                                        .epilogue = e * (1 + 2 * l->h / l->n),
                                        .load = MOE_INT_GATHER_LOAD},
                      f->dh);
    moe_int_list_stream(l, MOE_STAGE_DS, l->P * 4 * parts, l->P * 4);
    moe_int_list_free(l, "H");
    moe_int_list_gemm(l, MOE_STAGE_DW2, MOE_INT_OP_DW2,
                      (moe_int_traffic){.read = Pd + Pn, .load = MOE_INT_GATHER_LOAD}, f->dw);
    moe_int_list_free(l, "A'");
    moe_int_list_alloc(l, "dX~", Pd);
    moe_int_list_gemm(l, MOE_STAGE_DXP, MOE_INT_OP_DXP, (moe_int_traffic){.read = Ph, .write = Pd},
                      f->dxp);
    const moe_int_traffic dw1 = {.read = Pd + Ph, .load = MOE_INT_GATHER_LOAD};
    if (f->dx_last)
        moe_int_list_gemm(l, MOE_STAGE_DW1, MOE_INT_OP_DW1, dw1, f->dw);
    if (f->before_dx) {
        moe_int_list_alloc(l, "dX router", f->dx_read);
        f->before_dx(l);
    }
    moe_int_list_alloc(l, "dX", l->T * l->d * e);
    sum_rows(l, f, MOE_STAGE_DX, Pd + l->P * 8 + f->dx_read);
    moe_int_list_free(l, "dX~");
    if (f->before_dx)
        moe_int_list_free(l, "dX router");
    if (!f->dx_last)
        moe_int_list_gemm(l, MOE_STAGE_DW1, MOE_INT_OP_DW1, dw1, f->dw);
}
