/* One hidden unit's activation, as a changed kernel computes it. What a layer's description can say
 * is the reference's own code; the rest is written out here. */
#include "check/explain/functions.h"
#include "check/explain/scene.h"
#include "layer/traits.h"
#include "reference/activation.h"

#include <math.h>

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

/* phi(g) and phi'(g) of the gate's (or the only) factor, alone. */
static double factor_of(const moe_int_change *c, double g, double *slope) {
    double one = 1, a, alone[2] = {g, 1}, dh[2] = {0, 0};
    moe_layer_desc desc = c->desc;
    if (c->act == MOE_INT_ACT_GATE_FREE)
        desc.act_limit = INFINITY;
    double up = moe_int_acts[desc.act].clamps ? fmin(desc.act_limit, 1) : 1;
    alone[1] = desc.act == MOE_ACT_SWIGLU_CLAMP ? 0 : up; /* (0 + 1) leaves the gate's factor */
    if (desc.act == MOE_ACT_SWIGLU_SOFTCAP)
        desc.act_limit = 1e12; /* does not bend 1 */
    if (desc.act == MOE_ACT_SWIGLU_CLAMP)
        up = 1;
    moe_int_act_forward_f64(&desc, MOE_GLU_CONCAT, 1, alone, &a);
    moe_int_act_backward_f64(&desc, MOE_GLU_CONCAT, 1, alone, &one, dh);
    *slope = dh[0] / up;
    return a / up;
}

/* gelu(x) ~ x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (arXiv 1606.08415). */
static double gelu_tanh(double x, double *slope) {
    double k = 0.79788456080286535588, t = tanh(k * (x + 0.044715 * x * x * x));
    *slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x);
    return 0.5 * x * (1 + t);
}

/* What a kernel takes for phi'(g), whose value is right and whose slope is `slope`. */
static double wrong_slope(const moe_int_change *c, double g, double value, double slope) {
    const double s = sigmoid(g);
    switch ((int)c->act) { /* those that gate_factor asks for */
    case MOE_INT_ACT_CLAMP_SLOPE:
        factor_of(c, fmin(g, c->desc.act_limit), &slope);
        return slope;
    case MOE_INT_ACT_EDGE_OUTSIDE:
        return g >= c->desc.act_limit ? 0 : slope;
    case MOE_INT_ACT_SLOPE_RATIO:
        return g != 0 ? value / g : 0.5;
    case MOE_INT_ACT_SLOPE_SIGMOID:
        return s * (1 - s);
    case MOE_INT_ACT_SLOPE_SIGN:
        return s * (1 - g * (1 - s));
    }
    return 1;
}

static double gate_factor(const moe_int_change *c, double g, double *slope) {
    double value, limit = c->desc.act_limit;
    switch (c->act) {
    case MOE_INT_ACT_CLAMP_AFTER:
        value = sigmoid(c->desc.act_alpha * g);
        *slope = value * (1 + c->desc.act_alpha * g * (1 - value));
        value *= g;
        if (value > limit) {
            *slope = 0;
            value = limit;
        }
        return value;
    case MOE_INT_ACT_TANH:
        return gelu_tanh(g, slope);
    case MOE_INT_ACT_SIGMOID:
        value = sigmoid(1.702 * g);
        *slope = value * (1 + 1.702 * g * (1 - value));
        return g * value;
    case MOE_INT_ACT_IDENTITY:
        *slope = 1;
        return g;
    case MOE_INT_ACT_LEAKY:
        value = factor_of(c, g, slope);
        *slope = g > 0 ? *slope : 0.01;
        return g > 0 ? value : 0.01 * g;
    case MOE_INT_ACT_GATE_BELOW:
        value = factor_of(c, fmax(g, -limit), slope);
        *slope = g < -limit ? 0 : *slope;
        return value;
    case MOE_INT_ACT_CLAMP_SLOPE:
    case MOE_INT_ACT_EDGE_OUTSIDE:
    case MOE_INT_ACT_SLOPE_ONE:
    case MOE_INT_ACT_SLOPE_RATIO:
    case MOE_INT_ACT_SLOPE_SIGMOID:
    case MOE_INT_ACT_SLOPE_SIGN:
        value = factor_of(c, g, slope);
        *slope = wrong_slope(c, g, value, *slope);
        return value;
    case MOE_INT_ACT_RIGHT:
    case MOE_INT_ACT_GATE_FREE:
    case MOE_INT_ACT_UP_FREE:
    case MOE_INT_ACT_UP_ABOVE:
    case MOE_INT_ACT_NO_ONE:
    case MOE_INT_ACT_NO_UP:
    case MOE_INT_ACT_UP_SLOPE:
        break;
    }
    return factor_of(c, g, slope);
}

/* The other factor, u or what the clamp makes of it, and its slope. */
static double up_factor(const moe_int_change *c, double u, double *slope) {
    double limit = c->desc.act_limit;
    *slope = 1;
    if (c->act == MOE_INT_ACT_NO_UP) {
        *slope = 0;
        return 1;
    }
    if (c->desc.act == MOE_ACT_SWIGLU_SOFTCAP) {
        double t = tanh(u / limit);
        *slope = 1 - t * t;
        return limit * t;
    }
    if (!moe_int_acts[c->desc.act].clamps)
        return u;
    const double offset = c->desc.act == MOE_ACT_SWIGLU_CLAMP ? 1 : 0;
    double low = c->act == MOE_INT_ACT_UP_ABOVE ? -INFINITY : -limit;
    if (c->act == MOE_INT_ACT_UP_FREE)
        return u + offset;
    *slope = c->act != MOE_INT_ACT_CLAMP_SLOPE && (u < low || u > limit) ? 0 : 1;
    if (c->act == MOE_INT_ACT_EDGE_OUTSIDE && fabs(u) >= limit)
        *slope = 0;
    u = u < low ? low : u > limit ? limit : u;
    return c->act == MOE_INT_ACT_NO_ONE ? u : u + offset;
}

/* phi(g), or what it is made of, in few bits. */
static double rounded_factor(const moe_int_change *c, double g, double phi) {
    if (c->act_bits == 0 || c->act_part == MOE_INT_PART_A)
        return phi;
    if (c->act_part == MOE_INT_PART_PHI || g == 0)
        return moe_int_to_bits(c->act_bits, phi);
    if (c->act_part == MOE_INT_PART_SIGMOID)
        return g * moe_int_to_bits(c->act_bits, phi / g);
    return g * (1 + moe_int_to_bits(c->act_bits, 2 * phi / g - 1)) / 2;
}

void moe_int_changed_act(const moe_int_change *c, const double h[2], double *a, double slope[2]) {
    if (c->formula.form) {
        moe_int_formula_act(&c->formula, moe_act_is_gated(c->desc.act), h, a, slope);
        return;
    }
    int gate = c->act_swapped;
    bool gated = moe_act_is_gated(c->desc.act);
    double g_slope, u_slope = 0, g = gate_factor(c, h[gated ? gate : 0], &g_slope);
    double u = gated ? up_factor(c, h[!gate], &u_slope) : 1;
    g = rounded_factor(c, h[gated ? gate : 0], g);
    *a = moe_int_to_bits(c->act_part == MOE_INT_PART_A ? c->act_bits : 0, g * u);
    slope[gated ? gate : 0] = g_slope * u;
    if (gated)
        slope[!gate] = (c->act == MOE_INT_ACT_UP_SLOPE ? h[gate] : g) * u_slope;
}
