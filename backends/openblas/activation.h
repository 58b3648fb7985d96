/* The experts' activations over rows of pre-activations, vectorised, in fp32. */
#ifndef MOEREF_OPENBLAS_ACTIVATION_H
#define MOEREF_OPENBLAS_ACTIVATION_H

#include "moeref/layer.h"

/* Which function, and where gate and up lie in a row of H. */
typedef struct ob_act {
    int32_t kind;   /* moe_act */
    int32_t layout; /* moe_glu_layout */
    int64_t n;
    float alpha, limit;
} ob_act;

/* a[n] = act(h), h one row of H. */
void ob_act_forward(const ob_act *act, const float *h, float *a);

/* One row backward: from d_act = dA' = dO W2 and the weight w,
 *   scaled[n] = A' = w A    dh = act'(h) w dA'    and returns <dA', A>.
 * No two of the arrays may overlap. */
double ob_act_backward(const ob_act *act, const float *h, const float *d_act, float w,
                       float *scaled, float *dh);

/* The building blocks, for tests of their accuracy: exp(x) for x <= 0, sigmoid, Phi, each over
 * count values. */
void ob_exp_nonpositive(const float *x, float *ret, int64_t count);
void ob_sigmoid(const float *x, float *ret, int64_t count);
void ob_normal_cdf(const float *x, float *ret, int64_t count);

#endif
