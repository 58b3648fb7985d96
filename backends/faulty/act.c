/* Activations of one unit, with their derivatives. */
#include "faulty.h"

#include <math.h>

static float sigmoid(float x) {
    return x >= 0 ? 1 / (1 + expf(-x)) : expf(x) / (1 + expf(x));
}

/* x times a gate s(x) in (0, 1) with slope ds; the product rule. */
static float gated(float x, float s, float ds, float *slope) {
    *slope = s + x * ds;
    return x * s;
}

static float silu(const fy_layer *l, float x, float alpha, float *slope) {
    const float s = sigmoid(alpha * x);
    if (FAULT(l, silu_as_gelu))
        return gated(x, 0.5f * erfcf(-x * 0.70710678f), 0.39894228f * expf(-x * x / 2), slope);
    float a = gated(x, s, alpha * s * (1 - s), slope);
    if (FAULT(l, sigmoid_alone)) {
        *slope = alpha * s * (1 - s);
        return s;
    }
    if (FAULT(l, silu_slope_sigma))
        *slope = s;
    if (FAULT(l, silu_slope_sign))
        *slope = s * (1 - x * (1 - s));
    if (FAULT(l, silu_slope_missing))
        *slope = 1;
    if (FAULT(l, silu_missing)) {
        *slope = 1;
        a = x;
    }
    return a;
}

/* gelu(x) = x Phi(x). */
static float gelu(const fy_layer *l, float x, float *slope) {
    if (FAULT(l, gelu_tanh)) {
        const float c = 0.79788456f, inner = c * (x + 0.044715f * x * x * x);
        const float t = tanhf(inner);
        return gated(x, 0.5f * (1 + t), 0.5f * (1 - t * t) * c * (1 + 3 * 0.044715f * x * x),
                     slope);
    }
    if (FAULT(l, gelu_sigmoid)) {
        const float s = sigmoid(1.702f * x);
        return gated(x, s, 1.702f * s * (1 - s), slope);
    }
    float a = gated(x, 0.5f * erfcf(-x * 0.70710678f), 0.39894228f * expf(-x * x / 2), slope);
    if (FAULT(l, gelu_slope_cdf))
        *slope = 0.5f * erfcf(-x * 0.70710678f);
    return a;
}

/* A NaN stays a NaN. */
static float relu(const fy_layer *l, float x, float *slope) {
    const float below = FAULT(l, relu_leaky) ? 0.01f : 0;
    if (FAULT(l, relu_slope_missing)) {
        *slope = 1;
        return x > 0 ? x : 0;
    }
    *slope = x > 0 ? 1 : x <= 0 ? below : x;
    return x > 0 ? x : x <= 0 ? (FAULT(l, relu_leaky) ? below * x : 0) : x;
}

static float relu2(const fy_layer *l, float x, float *slope) {
    float a = relu(l, x, slope);
    if (FAULT(l, relu2_not_squared))
        return a;
    *slope *= FAULT(l, relu2_slope_half) ? a : 2 * a;
    return a * a;
}

static float nonlinearity(const fy_layer *l, float x, float *slope) {
    switch ((int)l->desc.act) { /* supports() lets no other value in */
    case MOE_ACT_SWIGLU:
    case MOE_ACT_SILU:
        return silu(l, x, 1, slope);
    case MOE_ACT_SWIGLU_CLAMP:
        return silu(l, x, FAULT(l, alpha_missing) ? 1 : (float)l->desc.act_alpha, slope);
    case MOE_ACT_GEGLU:
    case MOE_ACT_GELU:
        return gelu(l, x, slope);
    case MOE_ACT_RELU2:
        return relu2(l, x, slope);
    case MOE_ACT_REGLU:
    case MOE_ACT_RELU:
        return relu(l, x, slope);
    }
    *slope = NAN;
    return NAN;
}

/* x in [low, high], and whether its gradient passes: a limit counts as inside. */
static float clamp(const fy_layer *l, float x, float low, float high, bool *inside) {
    *inside = FAULT(l, clamp_edge_outside) ? x > low && x < high : !(x < low || x > high);
    if (FAULT(l, clamp_slope_missing))
        *inside = true;
    return x < low ? low : x > high ? high : x;
}

/* gpt-oss: the gate is limited from above, the up on both sides, and 1 is added to it. */
static fy_unit clamped(const fy_layer *l, float g, float u) {
    const float limit = (float)l->desc.act_limit;
    const bool clamps = !FAULT(l, clamp_missing), late = FAULT(l, clamp_after_silu);
    bool gate_in = true, up_in = true;
    float slope;
    if (clamps && !late && !FAULT(l, clamp_gate_missing))
        g = clamp(l, g, FAULT(l, clamp_gate_below) ? -limit : -INFINITY, limit, &gate_in);
    if (clamps && !FAULT(l, clamp_up_missing))
        u = clamp(l, u, FAULT(l, clamp_up_one_side) ? -INFINITY : -limit, limit, &up_in);
    float value = nonlinearity(l, g, &slope);
    if (late)
        value = clamp(l, value, -INFINITY, limit, &gate_in);
    const float up = FAULT(l, plus_one_missing) ? u : u + 1;
    return (fy_unit){value * up, gate_in ? slope * up : 0, up_in ? value : 0};
}

fy_unit fy_activate(const fy_layer *l, float g, float u) {
    float slope;
    if (!moe_act_is_gated(l->desc.act)) {
        const float a = nonlinearity(l, g, &slope);
        return (fy_unit){a, slope, 0};
    }
    if (l->desc.act == MOE_ACT_SWIGLU_CLAMP)
        return clamped(l, g, u);
    const float value = nonlinearity(l, g, &slope);
    if (FAULT(l, up_missing))
        return (fy_unit){value, slope, 0};
    if (FAULT(l, up_added))
        return (fy_unit){value + u, slope, 1};
    if (FAULT(l, up_raised))
        return (fy_unit){value * (u + 1), slope * (u + 1), value};
    fy_unit unit = {value * u, slope * u, value};
    if (FAULT(l, d_up_gate)) /* the gate itself in place of its activation */
        unit.d_up = g;
    if (FAULT(l, d_halves_swapped)) {
        unit.d_gate = value;
        unit.d_up = slope * u;
    }
    return unit;
}
