/* Activations and their derivatives, element by element. */
#ifndef MOE_REFERENCE_ACTIVATION_H
#define MOE_REFERENCE_ACTIVATION_H

#include "reference/real.h"

#define act_forward  REAL(moe_int_act_forward)
#define act_backward REAL(moe_int_act_backward)
#define act_unit     REAL(moe_int_act_unit)

/* Of one row: every pointwise step of a gated activation is rounded to `inner`; MOE_F64: none. */
#define act_forward_in  REAL(moe_int_act_forward_in)
#define act_backward_in REAL(moe_int_act_backward_in)
void act_forward_in(const moe_layer_desc *desc, int32_t layout, int64_t n, moe_dtype inner,
                    const real *h, real *a);
void act_backward_in(const moe_layer_desc *desc, int32_t layout, int64_t n, moe_dtype inner,
                     const real *h, const real *da, real *dh);

/* One hidden unit, h and dh its one or two columns: dh from da; returns a. */
real act_unit(const moe_layer_desc *desc, const real *h, real da, real *dh);

/* One row: a[n] from h (2n gated columns in `layout`, else n). */
void act_forward(const moe_layer_desc *desc, int32_t layout, int64_t n, const real *h, real *a);

/* One row: dh from da[n] and h. */
void act_backward(const moe_layer_desc *desc, int32_t layout, int64_t n, const real *h,
                  const real *da, real *dh);

#endif
