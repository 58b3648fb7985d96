/* One fused sum, in 64-bit integers: the rules as they are written down, and all special cases. */
#include "core/convert.h"
#include "reference/tensorcore/unit.h"

#include <stdlib.h>

#define NAN_BITS      0x7fffffffu
#define INFINITY_BITS 0x7f800000u

/* An fp32 number as the unit takes it. */
typedef struct wide {
    int64_t sig;
    int exp; /* sig * 2^(exp - 23) */
} wide;

static wide take_c(uint32_t c) {
    const int field = (int)(c >> 23 & 255);
    const int64_t sig = (int64_t)(c & 0x7fffff) | (field ? 1 << 23 : 0);
    return (wide){c >> 31 ? -sig : sig, field ? field - 127 : -126};
}

/* Toward zero to a multiple of 2^by (by < 0: exactly). */
static int64_t cut(int64_t sig, int by) {
    const int64_t size = llabs(sig);
    const int64_t kept = by >= 63 ? 0 : by >= 0 ? size >> by : size << -by;
    return sig < 0 ? -kept : kept;
}

/* sum * 2^unit, toward zero with `out` fraction bits. */
static uint32_t normalised(int64_t sum, int unit, int out) {
    if (sum == 0)
        return 0;
    const uint32_t sign = sum < 0 ? 1u << 31 : 0;
    uint64_t size = (uint64_t)llabs(sum);
    const int exp = 63 - __builtin_clzll(size) + unit;
    const int quantum = (exp < -126 ? -126 : exp) - 23;
    if (exp > 127)
        return sign | INFINITY_BITS;
    const int by = quantum - unit;
    size = by >= 64 ? 0 : by >= 0 ? size >> by : size << -by;
    size &= ~((1ull << (23 - out)) - 1); /* a fraction of `out` bits, also below 2^-126 */
    const uint32_t field = exp < -126 ? 0 : (uint32_t)(exp + 127);
    return sign | (field ? field << 23 | ((uint32_t)size & 0x7fffff) : (uint32_t)size);
}

/* Infinities and NaN among the terms so far. */
typedef struct special {
    bool nan, plus, minus;
} special;

static void add_special(special *s, int sign) {
    s->nan |= sign == 0;
    s->plus |= sign > 0;
    s->minus |= sign < 0;
}

static int sign_of(int64_t x) {
    return (x > 0) - (x < 0);
}

uint32_t moe_int_dot(const moe_int_dot_rule *rule, int fraction, const int16_t *a_sig,
                     const int16_t *a_exp, const int16_t *b_sig, const int16_t *b_exp, int stride,
                     uint32_t c) {
    const wide from = take_c(c);
    int most = from.exp;
    special s = {0};
    if (from.exp == 128)
        add_special(&s, llabs(from.sig) & 0x7fffff ? 0 : sign_of(from.sig));
    for (int i = 0; i < rule->terms; i++) {
        const int b = i * stride, exp = a_exp[i] + b_exp[b];
        most = exp > most ? exp : most;
        if (a_exp[i] == MOE_INT_SPECIAL || b_exp[b] == MOE_INT_SPECIAL)
            add_special(&s, sign_of(a_sig[i]) * sign_of(b_sig[b]));
    }
    if (s.nan || (s.plus && s.minus))
        return NAN_BITS;
    if (s.plus || s.minus)
        return INFINITY_BITS | (s.minus ? 1u << 31 : 0);
    const int unit = most - rule->kept;
    int64_t sum = cut(from.sig, unit - (from.exp - 23));
    for (int i = 0; i < rule->terms; i++) {
        const int b = i * stride;
        sum += cut((int64_t)a_sig[i] * b_sig[b], unit - (a_exp[i] + b_exp[b] - 2 * fraction));
    }
    return normalised(sum, unit, rule->out);
}

/* Exponents stay: fp16 has e5m2's, and those of e4m3's few subnormals do not reach what is cut. */
uint32_t moe_int_dot_by_fp16(const moe_int_dot_rule *rule, int fraction, const int16_t *a_sig,
                             const int16_t *a_exp, const int16_t *b_sig, const int16_t *b_exp,
                             int stride, uint32_t c) {
    enum { HALF = 16 };
    int16_t sig[2][HALF], exp[2][HALF];
    uint32_t sum = 0;
    for (int half = 0; half < 2; half++) {
        for (int i = 0; i < HALF; i++) {
            const int k = i / 2 * 4 + 2 * half + i % 2;
            sig[0][i] = a_sig[k];
            exp[0][i] = a_exp[k];
            sig[1][i] = b_sig[(ptrdiff_t)k * stride];
            exp[1][i] = b_exp[(ptrdiff_t)k * stride];
        }
        sum = moe_int_dot(rule, fraction, sig[0], exp[0], sig[1], exp[1], 1, sum);
    }
    const float all = moe_int_f32_from_bits(c) + moe_int_f32_from_bits(sum);
    return isnan(all) ? NAN_BITS : moe_int_f32_bits(all);
}
