/* Scalar conversions as inline functions, shared by the public wrappers and the bulk loops.
 *
 * Narrowing works on the magnitude, in straight-line code so that loops over it vectorise.
 * A normal result drops low bits of the integer representation: adding half of the dropped
 * range, minus one unless the kept part is odd, rounds to nearest with ties to even, and a
 * carry walks into the exponent by itself. A subnormal result comes from one floating-point
 * addition of a power of two whose last place is the target's smallest step. */
#ifndef MOE_CORE_CONVERT_H
#define MOE_CORE_CONVERT_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t moe_int_f32_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline float moe_int_f32_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline uint64_t moe_int_f64_bits(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline double moe_int_f64_from_bits(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline float moe_int_bf16_to_f32(uint16_t bits) {
    return moe_int_f32_from_bits((uint32_t)bits << 16);
}

/* bf16 has binary32's exponent, so subnormals need no case of their own. */
static inline uint16_t moe_int_bf16_from_f32(float value) {
    uint32_t bits = moe_int_f32_bits(value);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    uint32_t quiet_nan = (bits >> 16) | 0x40;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? quiet_nan : rounded);
}

/* A 16-bit float as a bit field layout: `mantissa` stored bits, exponent bias `bias`. */
static inline uint16_t moe_int_narrow_f64(double value, int mantissa, int bias) {
    const int drop = 52 - mantissa;
    const uint64_t infinity = ((uint64_t)(2 * bias + 1)) << mantissa;
    const uint64_t rebias = (uint64_t)(1023 - bias) << mantissa;
    /* The smallest normal is 2^(1-bias), the smallest step 2^(1-bias-mantissa). */
    const uint64_t smallest_normal = (uint64_t)(1023 + 1 - bias) << 52;
    const uint64_t aligner = (uint64_t)(1023 + 1 - bias - mantissa + 52) << 52;

    uint64_t bits = moe_int_f64_bits(value);
    uint64_t magnitude = bits & INT64_MAX;
    uint64_t sign = (bits >> 63) << 15;
    uint64_t half = ((uint64_t)1 << (drop - 1)) - 1 + ((magnitude >> drop) & 1);
    uint64_t normal = ((magnitude + half) >> drop) - rebias;
    uint64_t subnormal =
        moe_int_f64_bits(moe_int_f64_from_bits(magnitude) + moe_int_f64_from_bits(aligner)) -
        aligner;
    uint64_t quiet_nan = infinity | ((uint64_t)1 << (mantissa - 1)) |
                         ((magnitude >> drop) & (((uint64_t)1 << mantissa) - 1));

    uint64_t result = magnitude < smallest_normal ? subnormal : normal;
    result = magnitude >= smallest_normal && normal > infinity ? infinity : result;
    result = magnitude > (uint64_t)0x7ff << 52 ? quiet_nan : result;
    return (uint16_t)(sign | result);
}

static inline uint16_t moe_int_bf16_from_f64(double value) {
    return moe_int_narrow_f64(value, 7, 127);
}

static inline uint16_t moe_int_f16_from_f64(double value) {
    return moe_int_narrow_f64(value, 10, 15);
}

/* Normals, infinities and NaN only need the exponent moved; a subnormal is an integer times
 * 2^-24, obtained by putting it below the last place of 2^-14 and subtracting that again. */
static inline float moe_int_f16_to_f32(uint16_t bits) {
    uint32_t magnitude = (uint32_t)(bits & 0x7fff) << 13;
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t exponent = magnitude & 0x0f800000;
    uint32_t finite = magnitude + ((127 - 15) << 23);
    uint32_t special = magnitude + ((255 - 31) << 23);
    const uint32_t least_normal = (uint32_t)(127 - 14) << 23;
    uint32_t subnormal = moe_int_f32_bits(moe_int_f32_from_bits(least_normal + magnitude) -
                                          moe_int_f32_from_bits(least_normal));
    uint32_t result = exponent == 0 ? subnormal : finite;
    result = exponent == 0x0f800000 ? special : result;
    return moe_int_f32_from_bits(sign | result);
}

/* Rounds to the nearest integer and saturates; NaN becomes 0. */
static inline double moe_int_clamp_round(double value, double least, double greatest) {
    double clamped = value < least ? least : value > greatest ? greatest : value;
    return isnan(value) ? 0.0 : nearbyint(clamped);
}

/* 2^63 itself is not an int64_t, and the largest int64_t is not a double. */
static inline int64_t moe_int_i64_from_f64(double value) {
    if (value >= 0x1p63)
        return INT64_MAX;
    return (int64_t)moe_int_clamp_round(value, -0x1p63, 0x1p63);
}

#endif
