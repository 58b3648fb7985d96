/* Each activation is written once, for one element, and always inlined into loops in which its kind
 * and the stride of H are constants: the compiler then vectorises them for every instruction set
 * in OB_CLONES and the processor picks at load time.
 *
 * A switch names every activation (-Werror=switch) and nothing gets past it: `supports` has
 * refused what this file does not know. */
#include "activation.h"
#include "vector_math.h"

#include <stdlib.h>

_Static_assert(MOE_GLU_COUNT == 2, "a new layout needs its loops here");

typedef struct value {
    float act, slope; /* phi(x) and phi'(x) */
} value;

OB_INLINE value silu_like(float x, float alpha) {
    ob_sigmoid_pair s = ob_sigmoid_of(alpha * x);
    return (value){x * s.value, s.value * (1 + alpha * x * s.complement)};
}

OB_INLINE value gelu(float x) {
    ob_normal v = ob_normal_of(x);
    return (value){x * v.cdf, v.cdf + x * v.pdf};
}

/* A NaN is none of > 0, <= 0 and stays. */
OB_INLINE value relu(float x) {
    return (value){x > 0 ? x : (x <= 0 ? 0 : x), x > 0 ? 1 : (x <= 0 ? 0 : x)};
}

OB_INLINE value relu_squared(float x) {
    value v = relu(x);
    return (value){v.act * v.act, 2 * v.act};
}

OB_INLINE float tanh_of(float x) {
    return 2 * ob_sigmoid_of(2 * x).value - 1;
}

OB_INLINE value gelu_tanh(float x) {
    const float c = 0.79788456080286535588f, k = 0.044715f;
    ob_sigmoid_pair s = ob_sigmoid_of(2 * c * (x + k * x * x * x));
    return (value){x * s.value, s.value * (1 + 2 * x * s.complement * c * (1 + 3 * k * x * x))};
}

/* c tanh(x / c) and its slope 1 - tanh^2. Near 0 tanh as a difference of sigmoids would cancel. */
OB_INLINE value softcap(float x, float c) {
    float y = x / c, t = y < 0.1f && y > -0.1f
                             ? y * (1 - y * y * (1.f / 3 - y * y * (2.f / 15 - y * y * 17 / 315)))
                             : tanh_of(y);
    ob_sigmoid_pair s = ob_sigmoid_of(2 * y);
    return (value){c * t, 4 * s.value * s.complement};
}

OB_INLINE value capped_silu(float x, float c) {
    value cap = softcap(x, c);
    ob_sigmoid_pair s = ob_sigmoid_of(x);
    return (value){cap.act * s.value, s.value * (cap.slope + cap.act * s.complement)};
}

OB_INLINE value limited_silu(float x, float limit) {
    value v = silu_like(x, 1);
    return (value){v.act > limit ? limit : v.act, v.act > limit ? 0 : v.slope};
}

OB_INLINE value nonlinearity(int kind, float x, float alpha, float limit) {
    switch ((moe_act)kind) {
    case MOE_ACT_SWIGLU:
    case MOE_ACT_SILU:
    case MOE_ACT_SWIGLU_LIMIT:
        return silu_like(x, 1);
    case MOE_ACT_SWIGLU_LIMIT_AFTER:
        return limited_silu(x, limit);
    case MOE_ACT_SWIGLU_SOFTCAP:
        return capped_silu(x, alpha);
    case MOE_ACT_GEGLU_TANH:
        return gelu_tanh(x);
    case MOE_ACT_SWIGLU_CLAMP:
        return silu_like(x, alpha);
    case MOE_ACT_GEGLU:
    case MOE_ACT_GELU:
        return gelu(x);
    case MOE_ACT_RELU2:
        return relu_squared(x);
    case MOE_ACT_REGLU:
    case MOE_ACT_RELU:
        return relu(x);
    case MOE_ACT_COUNT:
        break;
    }
    abort();
}

/* Gate and up after clamps and caps; act = phi(gate) * factor. The gradient does not pass a value
 * outside the limits; one on a limit is inside. up_pass is a soft cap's slope too. */
typedef struct glu {
    float gate, factor, gate_pass, up_pass;
} glu;

OB_INLINE glu glu_of(int kind, float gate, float up, float limit) {
    glu v = {gate, up, 1, 1};
    const bool clamped = kind == MOE_ACT_SWIGLU_CLAMP, limited = kind == MOE_ACT_SWIGLU_LIMIT;
    if (clamped || limited) {
        v.gate = gate > limit ? limit : gate;
        v.gate_pass = gate > limit ? 0 : 1;
    }
    if (clamped || limited || kind == MOE_ACT_SWIGLU_LIMIT_AFTER) {
        v.factor = (clamped ? 1 : 0) + (up > limit ? limit : up < -limit ? -limit : up);
        v.up_pass = up > limit || up < -limit ? 0 : 1;
    }
    if (kind == MOE_ACT_SWIGLU_SOFTCAP) {
        value cap = softcap(up, limit);
        v.factor = cap.act;
        v.up_pass = cap.slope;
    }
    return v;
}

OB_INLINE void forward_loop(int kind, bool gated, int64_t stride, int64_t up, const ob_act *act,
                            const float *restrict h, float *restrict a) {
    float alpha = act->alpha, limit = act->limit;
    for (int64_t j = 0, n = act->n; j < n; j++) {
        if (gated) {
            glu v = glu_of(kind, h[j * stride], h[j * stride + up], limit);
            a[j] = nonlinearity(kind, v.gate, alpha, limit).act * v.factor;
        } else {
            a[j] = nonlinearity(kind, h[j], alpha, limit).act;
        }
    }
}

OB_INLINE double backward_loop(int kind, bool gated, int64_t stride, int64_t up, const ob_act *act,
                               const float *restrict h, const float *restrict d_act, float w,
                               float *restrict scaled, float *restrict dh) {
    float alpha = act->alpha, limit = act->limit;
    double dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t j = 0; j < act->n; j++) {
        float a, da = w * d_act[j];
        if (gated) {
            glu v = glu_of(kind, h[j * stride], h[j * stride + up], limit);
            value f = nonlinearity(kind, v.gate, alpha, limit);
            a = f.act * v.factor;
            dh[j * stride] = v.gate_pass != 0 ? da * v.factor * f.slope : 0;
            dh[j * stride + up] = v.up_pass != 0 ? v.up_pass * da * f.act : 0;
        } else {
            value f = nonlinearity(kind, h[j], alpha, limit);
            a = f.act;
            dh[j] = da * f.slope;
        }
        dot += (double)d_act[j] * (double)a;
        scaled[j] = w * a;
    }
    return dot;
}

OB_INLINE void forward_layout(int kind, const ob_act *act, const float *h, float *a) {
    if (act->layout == MOE_GLU_INTERLEAVED)
        forward_loop(kind, true, 2, 1, act, h, a);
    else
        forward_loop(kind, true, 1, act->n, act, h, a);
}

OB_INLINE double backward_layout(int kind, const ob_act *act, const float *h, const float *d_act,
                                 float w, float *scaled, float *dh) {
    if (act->layout == MOE_GLU_INTERLEAVED)
        return backward_loop(kind, true, 2, 1, act, h, d_act, w, scaled, dh);
    return backward_loop(kind, true, 1, act->n, act, h, d_act, w, scaled, dh);
}

OB_CLONES void ob_act_forward(const ob_act *act, const float *h, float *a) {
    switch ((moe_act)act->kind) {
    case MOE_ACT_SWIGLU:
        forward_layout(MOE_ACT_SWIGLU, act, h, a);
        return;
    case MOE_ACT_GEGLU:
        forward_layout(MOE_ACT_GEGLU, act, h, a);
        return;
    case MOE_ACT_REGLU:
        forward_layout(MOE_ACT_REGLU, act, h, a);
        return;
    case MOE_ACT_SWIGLU_CLAMP:
        forward_layout(MOE_ACT_SWIGLU_CLAMP, act, h, a);
        return;
    case MOE_ACT_RELU2:
        forward_loop(MOE_ACT_RELU2, false, 1, 0, act, h, a);
        return;
    case MOE_ACT_RELU:
        forward_loop(MOE_ACT_RELU, false, 1, 0, act, h, a);
        return;
    case MOE_ACT_GELU:
        forward_loop(MOE_ACT_GELU, false, 1, 0, act, h, a);
        return;
    case MOE_ACT_SILU:
        forward_loop(MOE_ACT_SILU, false, 1, 0, act, h, a);
        return;
    case MOE_ACT_SWIGLU_LIMIT:
        forward_layout(MOE_ACT_SWIGLU_LIMIT, act, h, a);
        return;
    case MOE_ACT_SWIGLU_LIMIT_AFTER:
        forward_layout(MOE_ACT_SWIGLU_LIMIT_AFTER, act, h, a);
        return;
    case MOE_ACT_GEGLU_TANH:
        forward_layout(MOE_ACT_GEGLU_TANH, act, h, a);
        return;
    case MOE_ACT_SWIGLU_SOFTCAP:
        forward_layout(MOE_ACT_SWIGLU_SOFTCAP, act, h, a);
        return;
    case MOE_ACT_COUNT:
        break;
    }
    abort();
}

OB_CLONES double ob_act_backward(const ob_act *act, const float *h, const float *d_act, float w,
                                 float *scaled, float *dh) {
    switch ((moe_act)act->kind) {
    case MOE_ACT_SWIGLU:
        return backward_layout(MOE_ACT_SWIGLU, act, h, d_act, w, scaled, dh);
    case MOE_ACT_GEGLU:
        return backward_layout(MOE_ACT_GEGLU, act, h, d_act, w, scaled, dh);
    case MOE_ACT_REGLU:
        return backward_layout(MOE_ACT_REGLU, act, h, d_act, w, scaled, dh);
    case MOE_ACT_SWIGLU_CLAMP:
        return backward_layout(MOE_ACT_SWIGLU_CLAMP, act, h, d_act, w, scaled, dh);
    case MOE_ACT_RELU2:
        return backward_loop(MOE_ACT_RELU2, false, 1, 0, act, h, d_act, w, scaled, dh);
    case MOE_ACT_RELU:
        return backward_loop(MOE_ACT_RELU, false, 1, 0, act, h, d_act, w, scaled, dh);
    case MOE_ACT_GELU:
        return backward_loop(MOE_ACT_GELU, false, 1, 0, act, h, d_act, w, scaled, dh);
    case MOE_ACT_SILU:
        return backward_loop(MOE_ACT_SILU, false, 1, 0, act, h, d_act, w, scaled, dh);
    case MOE_ACT_SWIGLU_LIMIT:
        return backward_layout(MOE_ACT_SWIGLU_LIMIT, act, h, d_act, w, scaled, dh);
    case MOE_ACT_SWIGLU_LIMIT_AFTER:
        return backward_layout(MOE_ACT_SWIGLU_LIMIT_AFTER, act, h, d_act, w, scaled, dh);
    case MOE_ACT_GEGLU_TANH:
        return backward_layout(MOE_ACT_GEGLU_TANH, act, h, d_act, w, scaled, dh);
    case MOE_ACT_SWIGLU_SOFTCAP:
        return backward_layout(MOE_ACT_SWIGLU_SOFTCAP, act, h, d_act, w, scaled, dh);
    case MOE_ACT_COUNT:
        break;
    }
    abort();
}

OB_CLONES void ob_exp_nonpositive(const float *x, float *ret, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        ret[i] = ob_exp_of(x[i], 0);
}

OB_CLONES void ob_sigmoid(const float *x, float *ret, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        ret[i] = ob_sigmoid_of(x[i]).value;
}

OB_CLONES void ob_normal_cdf(const float *x, float *ret, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        ret[i] = ob_normal_of(x[i]).cdf;
}
