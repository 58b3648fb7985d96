/* Activations and their derivatives on the device, element by element; the same definitions as
 * the reference's (moe_act in layer.h). */
#ifndef MOE_CUDA_ACTIVATION_CUH
#define MOE_CUDA_ACTIVATION_CUH

#include "moeref/layer.h"

struct ActParams {
    int kind; /* moe_act */
    float alpha, limit;
};

/* nvcc does not tell of a value that a switch on the device leaves out. */
static_assert(MOE_ACT_COUNT == 12, "a new activation needs its case in act_phi");

/* Five instructions: tiny powers are flushed to zero, on which __expf and __fdividef spend more
 * than on everything else. Relative error some 1e-6 at |x| = 20: far below the rounding of what is
 * stored. */
__device__ __forceinline__ float act_sigmoid(float x) {
    float power, ret;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(-1.44269504f * x));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(ret) : "f"(1.f + power));
    return ret;
}

/* phi(x) and its slope. A NaN stays a NaN. */
__device__ __forceinline__ float act_phi(const ActParams &p, float x, float *slope) {
    float s;
    switch ((moe_act)p.kind) {
    case MOE_ACT_SWIGLU:
    case MOE_ACT_SILU:
        s = act_sigmoid(x);
        *slope = s * (1.f + x * (1.f - s));
        return x * s;
    case MOE_ACT_SWIGLU_CLAMP:
        s = act_sigmoid(p.alpha * x);
        *slope = s * (1.f + p.alpha * x * (1.f - s));
        return x * s;
    case MOE_ACT_GEGLU:
    case MOE_ACT_GELU:
        s = 0.5f * erfcf(-x * 0.70710678f);
        *slope = s + x * 0.39894228f * __expf(-0.5f * x * x);
        return x * s;
    case MOE_ACT_RELU2:
        *slope = x > 0 ? 2.f * x : (x <= 0 ? 0.f : x);
        return x > 0 ? x * x : (x <= 0 ? 0.f : x);
    case MOE_ACT_REGLU:
    case MOE_ACT_RELU:
    case MOE_ACT_SWIGLU_LIMIT:
    case MOE_ACT_SWIGLU_LIMIT_AFTER:
    case MOE_ACT_GEGLU_TANH:
    case MOE_ACT_SWIGLU_SOFTCAP:
    case MOE_ACT_COUNT: /* none of these: `supports` refused it */
        break;
    }
    *slope = x > 0 ? 1.f : (x <= 0 ? 0.f : x);
    return x > 0 ? x : (x <= 0 ? 0.f : x);
}

/* The gated activation with its parts: a = phi(g) (u + offset); dg and du are its partial
 * derivatives, 0 outside gpt-oss's clamp. */
struct AnyGlu {
    ActParams p;
    __device__ __forceinline__ float value(float g, float u) const {
        float dg, du;
        return parts(g, u, &dg, &du);
    }
    __device__ __forceinline__ float parts(float g, float u, float *dg, float *du) const {
        bool g_inside = true, u_inside = true;
        float offset = 0.f, slope;
        if (p.kind == MOE_ACT_SWIGLU_CLAMP) {
            g_inside = !(g > p.limit);
            u_inside = !(u < -p.limit || u > p.limit);
            g = g_inside ? g : p.limit;
            u = u_inside ? u : (u < 0 ? -p.limit : p.limit);
            offset = 1.f;
        }
        float phi = act_phi(p, g, &slope);
        *dg = g_inside ? slope * (u + offset) : 0.f;
        *du = u_inside ? phi : 0.f;
        return phi * (u + offset);
    }
};

/* SwiGLU alone: no branches in the epilogue of the common case. */
struct SwiGlu {
    __device__ __forceinline__ explicit SwiGlu(const ActParams &) {
    }
    __device__ __forceinline__ float value(float g, float u) const {
        return g * (act_sigmoid(g) * u);
    }
    __device__ __forceinline__ float parts(float g, float u, float *dg, float *du) const {
        float s = act_sigmoid(g), su = s * u, a = g * su;
        *dg = su + a * (1.f - s); /* u s (1 + g (1 - s)) */
        *du = g * s;
        return a;
    }
};

#endif
