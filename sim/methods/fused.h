/* The dataflow that SonicMoE introduced and that the project's own backend follows: gathers fused
 * into the loads, activations and their gradients fused into the epilogues, H alone cached. */
#ifndef MOE_SIM_METHODS_FUSED_H
#define MOE_SIM_METHODS_FUSED_H

#include "sim/kernels/list.h"

typedef struct moe_int_fused {
    const moe_int_tiles *a, *y, *dh, *dxp, *dw;
    int ds_columns; /* dS leaves dH as one partial sum for so many columns; a small kernel adds */
    double (*rounds_us)(const moe_int_list *l); /* that O's and dX's warps wait; NULL: not known */
    bool dx_last;                               /* dX after dW1 */
    void (*before_dx)(moe_int_list *l); /* kernels of which dX adds what they leave; NULL: none */
    double dx_read;                     /* bytes of that */
} moe_int_fused;

/* From the plan on, whose rows are sorted by expert. */
void moe_int_fused_forward(moe_int_list *l, const moe_int_fused *f);
void moe_int_fused_backward(moe_int_list *l, const moe_int_fused *f);

#endif
