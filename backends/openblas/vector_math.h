/* exp, sigmoid and the normal distribution in fp32, branch-free so that loops over them vectorise.
 * Accuracy (against float64, all of the range that matters): exp 1.5 ulp, sigmoid 3.5 ulp, Phi 8
 * ulp; tests/unit/test_backend_activation.c holds them to it.
 *
 * NaN stays NaN. The compiler may not reorder or drop any of these operations: no -ffast-math. */
#ifndef MOEREF_OPENBLAS_VECTOR_MATH_H
#define MOEREF_OPENBLAS_VECTOR_MATH_H

#include <math.h>
#include <stdint.h>

#define OB_INLINE static inline __attribute__((always_inline))

#ifdef OB_HAVE_CLONES /* set by the build where the compiler and the C library can do it */
#define OB_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define OB_CLONES
#endif

OB_INLINE uint32_t ob_bits_of(float x) {
    union {
        float f;
        uint32_t u;
    } v = {.f = x};
    return v.u;
}

OB_INLINE float ob_float_of(uint32_t bits) {
    union {
        uint32_t u;
        float f;
    } v = {.u = bits};
    return v.f;
}

/* exp(x + low) for x <= 0 and |low| far below 1; 0 where the result would be denormal.
 * x = k ln2 + r with |r| <= ln2/2, exp(r) = 1 + r + r^2 q(r); q is a Lawson-iterated minimax fit,
 * relative error 3.1e-9. ln2 is split so that k times its upper part is exact. */
OB_INLINE float ob_exp_of(float x, float low) {
    const float log2_e = 1.44269504f, ln2_high = 0.693145752f, ln2_low = 1.42860677e-6f;
    const float round_shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    float shifted = x * log2_e + round_shift;
    float k = shifted - round_shift;
    float r = (x - k * ln2_high) - k * ln2_low + low;
    float q = 0.0013814465f;
    q = q * r + 0.008368781f;
    q = q * r + 0.041668393f;
    q = q * r + 0.1666652f;
    q = q * r + 0.49999994f;
    float y = 1 + (r + r * r * q);
    /* The integer lies in the low bits of `shifted`; scale by adding it to the exponent. */
    uint32_t scaled = ob_bits_of(y) + (ob_bits_of(shifted) << 23);
    return x < -87.0f ? 0 : (x == x ? ob_float_of(scaled) : x);
}

typedef struct ob_sigmoid_pair {
    float value, complement; /* sigmoid(x) and 1 - sigmoid(x), both without cancellation */
} ob_sigmoid_pair;

OB_INLINE ob_sigmoid_pair ob_sigmoid_of(float x) {
    float e = ob_exp_of(-fabsf(x), 0);
    float large = 1 / (1 + e), small = e * large;
    return (ob_sigmoid_pair){x >= 0 ? large : small, x >= 0 ? small : large};
}

typedef struct ob_normal {
    float cdf, pdf;
} ob_normal;

/* Phi(-|x|) = pdf(x) M(|x|) with Mills' ratio M = t P(t), t = 1/(1 + 0.3 |x|), relative error of
 * the fit 3.5e-9 on |x| <= 14. x^2 is split in two parts, since exp(-x^2/2) multiplies its
 * rounding. */
OB_INLINE ob_normal ob_normal_of(float x) {
    float z = fabsf(x);
    float upper = ob_float_of(ob_bits_of(z) & 0xfffff000u);
    float tail = (z - upper) * (z + upper);
    float pdf = 0.398942280f * ob_exp_of(-0.5f * (upper * upper), -0.5f * tail);
    float t = 1 / (1 + 0.3f * z);
    float p = -0.0516689420f;
    p = p * t + 0.281685889f;
    p = p * t - 0.571684241f;
    p = p * t + 0.480229139f;
    p = p * t - 0.198647827f;
    p = p * t + 0.240783527f;
    p = p * t + 0.196583003f;
    p = p * t + 0.276299089f;
    p = p * t + 0.299724638f;
    p = p * t + 0.300009906f;
    float small = pdf * (t * p);
    return (ob_normal){x >= 0 ? 1 - small : small, pdf};
}

#endif
