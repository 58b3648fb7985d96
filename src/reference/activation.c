#include "reference/activation.h"
#include "core/closed.h"

static real sigmoid(real x) {
    real e = MOE_REAL_FN(exp)(x >= 0 ? -x : x);
    return (x >= 0 ? 1 : e) / (1 + e);
}

/* Standard normal distribution and density, for gelu(x) = x Phi(x). */
static real normal_cdf(real x) {
    return (real)0.5 * MOE_REAL_FN(erfc)(-x * (real)0.70710678118654752440);
}

static real normal_pdf(real x) {
    return (real)0.39894228040143267794 * MOE_REAL_FN(exp)(-x * x / 2);
}

/* c tanh(x / c) and its slope, 1 - tanh^2 without its cancellation far out. */
static real softcap(real x, real c, real *slope) {
    real y = 2 * x / c;
    *slope = 4 * sigmoid(y) * sigmoid(-y);
    return c * MOE_REAL_FN(tanh)(x / c);
}

/* gelu by tanh: x (1 + tanh(q)) / 2, q = sqrt(2 / pi) (x + 0.044715 x^3). (1 + tanh(q)) / 2 is
 * sigmoid(2 q), of which something is left far below 0. */
static real gelu_tanh(real x, real *slope) {
    const real c = (real)0.79788456080286535588, k = (real)0.044715;
    real q = 2 * c * (x + k * x * x * x), s = sigmoid(q);
    *slope = s * (1 + x * sigmoid(-q) * 2 * c * (1 + 3 * k * x * x));
    return x * s;
}

/* phi(x) of the activation's nonlinear factor, and its derivative in *slope. */
static real nonlinearity(const moe_layer_desc *desc, real x, real *slope) {
    real s;
    switch ((moe_act)desc->act) {
    case MOE_ACT_SWIGLU:
    case MOE_ACT_SILU:
    case MOE_ACT_SWIGLU_LIMIT:
        s = sigmoid(x);
        *slope = s * (1 + x * (1 - s));
        return x * s;
    case MOE_ACT_SWIGLU_LIMIT_AFTER:
        s = sigmoid(x);
        *slope = x * s > (real)desc->act_limit ? 0 : s * (1 + x * (1 - s));
        return x * s > (real)desc->act_limit ? (real)desc->act_limit : x * s;
    case MOE_ACT_SWIGLU_SOFTCAP: {
        real bend, capped = softcap(x, (real)desc->act_alpha, &bend);
        s = sigmoid(x);
        *slope = s * (bend + capped * sigmoid(-x));
        return capped * s;
    }
    case MOE_ACT_GEGLU_TANH:
        return gelu_tanh(x, slope);
    case MOE_ACT_SWIGLU_CLAMP:
        s = sigmoid((real)desc->act_alpha * x);
        *slope = s * (1 + (real)desc->act_alpha * x * (1 - s));
        return x * s;
    case MOE_ACT_GEGLU:
    case MOE_ACT_GELU:
        s = normal_cdf(x);
        *slope = s + x * normal_pdf(x);
        return x * s;
    case MOE_ACT_RELU2:
        *slope = x > 0 ? 2 * x : (x <= 0 ? 0 : x);
        return x > 0 ? x * x : (x <= 0 ? 0 : x);
    case MOE_ACT_REGLU:
    case MOE_ACT_RELU: /* a NaN stays a NaN */
        *slope = x > 0 ? 1 : (x <= 0 ? 0 : x);
        return x > 0 ? x : (x <= 0 ? 0 : x);
    case MOE_ACT_COUNT:
        break;
    }
    MOE_INT_NO_OTHER_VALUE();
}

/* Gate is clamped from above, up on both sides; outside, the gradient is 0. A value on
 * the limit counts as inside, as in torch.clamp. */
static real clamp(real x, real low, real high, bool *inside) {
    *inside = !(x < low || x > high);
    return x < low ? low : x > high ? high : x;
}

typedef struct glu {
    real gate, up, up_offset;    /* after clamping; act = phi(gate) * (up + up_offset) */
    bool gate_inside, up_inside; /* where the clamp lets the gradient through */
    real up_slope;               /* of a soft cap */
} glu;

static glu glu_load(const moe_layer_desc *desc, real gate, real up) {
    glu v = {gate, up, 0, true, true, 1};
    real limit = (real)desc->act_limit;
    bool clamped = desc->act == MOE_ACT_SWIGLU_CLAMP, limited = desc->act == MOE_ACT_SWIGLU_LIMIT;
    if (clamped || limited)
        v.gate = clamp(gate, -INFINITY, limit, &v.gate_inside);
    if (clamped || limited || desc->act == MOE_ACT_SWIGLU_LIMIT_AFTER)
        v.up = clamp(up, -limit, limit, &v.up_inside);
    if (clamped)
        v.up_offset = 1;
    if (desc->act == MOE_ACT_SWIGLU_SOFTCAP)
        v.up = softcap(up, limit, &v.up_slope);
    return v;
}

/* What an operator that stores its result in `inner` returns. */
static real keep(real x, moe_dtype inner) {
    return inner == MOE_F64 ? x : (real)moe_round_to((double)x, inner);
}

/* The factor phi(gate) of a gated activation. Eager code has the sigmoid of the clamped one apart.
 */
static real kept_factor(const moe_layer_desc *desc, real gate, moe_dtype inner) {
    real slope, alpha = (real)desc->act_alpha;
    if (inner == MOE_F64 || desc->act != MOE_ACT_SWIGLU_CLAMP)
        return keep(nonlinearity(desc, gate, &slope), inner);
    return keep(gate * keep(sigmoid(keep(alpha * gate, inner)), inner), inner);
}

/* Its gradient from dphi, as autograd adds it up: once for the factor, once for the sigmoid. */
static real kept_gradient(const moe_layer_desc *desc, real gate, real dphi, moe_dtype inner) {
    real slope, alpha = (real)desc->act_alpha;
    if (desc->act != MOE_ACT_SWIGLU_CLAMP) {
        nonlinearity(desc, gate, &slope);
        return dphi * slope;
    }
    real s = keep(sigmoid(keep(alpha * gate, inner)), inner);
    real ds = keep(keep(dphi * gate, inner) * s * (1 - s), inner);
    return keep(dphi * s, inner) + keep(alpha * ds, inner);
}

void act_forward_in(const moe_layer_desc *desc, int32_t layout, int64_t n, moe_dtype inner,
                    const real *h, real *a) {
    real slope;
    if (!moe_act_is_gated(desc->act)) {
        for (int64_t j = 0; j < n; j++)
            a[j] = nonlinearity(desc, h[j], &slope);
        return;
    }
    for (int64_t j = 0; j < n; j++) {
        int64_t g = moe_h_column(layout, n, 2 * n, j, 0), u = moe_h_column(layout, n, 2 * n, j, 1);
        glu v = glu_load(desc, h[g], h[u]);
        a[j] = kept_factor(desc, v.gate, inner) * keep(v.up + v.up_offset, inner);
    }
}

real act_unit(const moe_layer_desc *desc, const real *h, real da, real *dh) {
    real slope;
    if (!moe_act_is_gated(desc->act)) {
        real a = nonlinearity(desc, h[0], &slope);
        dh[0] = da * slope;
        return a;
    }
    glu v = glu_load(desc, h[0], h[1]);
    real phi = nonlinearity(desc, v.gate, &slope), up = v.up + v.up_offset;
    dh[0] = v.gate_inside ? da * up * slope : 0;
    dh[1] = v.up_inside ? da * phi * v.up_slope : 0;
    return phi * up;
}

void act_backward_in(const moe_layer_desc *desc, int32_t layout, int64_t n, moe_dtype inner,
                     const real *h, const real *da, real *dh) {
    const bool gated = moe_act_is_gated(desc->act);
    for (int64_t j = 0; j < n && !gated; j++)
        act_unit(desc, &h[j], da[j], &dh[j]);
    for (int64_t j = 0; j < n && gated && inner == MOE_F64; j++) {
        int64_t g = moe_h_column(layout, n, 2 * n, j, 0), u = moe_h_column(layout, n, 2 * n, j, 1);
        real unit[2] = {0, 0};
        act_unit(desc, (const real[]){h[g], h[u]}, da[j], unit);
        dh[g] = unit[0];
        dh[u] = unit[1];
    }
    if (!gated || inner == MOE_F64)
        return;
    for (int64_t j = 0; j < n; j++) {
        int64_t g = moe_h_column(layout, n, 2 * n, j, 0), u = moe_h_column(layout, n, 2 * n, j, 1);
        glu v = glu_load(desc, h[g], h[u]);
        real dphi = keep(da[j] * keep(v.up + v.up_offset, inner), inner);
        dh[g] = v.gate_inside ? kept_gradient(desc, v.gate, dphi, inner) : 0;
        dh[u] = v.up_inside ? da[j] * kept_factor(desc, v.gate, inner) * v.up_slope : 0;
    }
}

void act_forward(const moe_layer_desc *desc, int32_t layout, int64_t n, const real *h, real *a) {
    act_forward_in(desc, layout, n, MOE_F64, h, a);
}

void act_backward(const moe_layer_desc *desc, int32_t layout, int64_t n, const real *h,
                  const real *da, real *dh) {
    act_backward_in(desc, layout, n, MOE_F64, h, da, dh);
}
