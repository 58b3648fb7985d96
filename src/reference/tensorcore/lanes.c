/* Straight-line code over lanes, so that compilers vectorise it. What is rare, results outside the
 * normal numbers and infinities, is left to moe_int_dot.
 *
 * 32 bits suffice: a term is less than 2^28 and 32 of them, with C's 2^26, less than 2^32. Sums of
 * all terms and of the negative ones are kept apart. */
#include "reference/tensorcore/lanes.h"
#include "core/convert.h"
#include "core/simd.h"

enum { LANES = MOE_INT_LANES, LEAST_UNUSUAL = 1024 };

/* What is the same for all lanes. */
typedef struct lane_rule {
    int terms, kept, out;
    int up;            /* product's places below the point up to the kept ones */
    int c_up, c_down;  /* C's */
    uint32_t fraction; /* bits of a result that stay */
} lane_rule;

static inline lane_rule lane_rule_of(const moe_int_dot_rule *r, int fraction) {
    return (lane_rule){.terms = r->terms,
                       .kept = r->kept,
                       .out = r->out,
                       .up = r->kept - 2 * fraction,
                       .c_up = r->kept > 23 ? r->kept - 23 : 0,
                       .c_down = r->kept < 23 ? 23 - r->kept : 0,
                       .fraction = ~((1u << (23 - r->out)) - 1)};
}

/* The largest exponent, and C's own sum: all and negative terms. */
MOE_INT_INLINE void begin(const lane_rule *r, const int16_t *a_exp, const int16_t *b_exp,
                          const uint32_t *c, int32_t *most, uint32_t *all, uint32_t *negative) {
    int32_t c_exp[LANES];
    for (int l = 0; l < LANES; l++) {
        int32_t field = (int32_t)(c[l] >> 23 & 255);
        c_exp[l] = field ? field - 127 : -126;
        most[l] = c_exp[l];
    }
    for (int i = 0; i < r->terms; i++)
        for (int l = 0; l < LANES; l++) {
            int32_t exp = a_exp[i] + b_exp[i * LANES + l];
            most[l] = exp > most[l] ? exp : most[l];
        }
    for (int l = 0; l < LANES; l++) {
        uint32_t field = c[l] >> 23 & 255, sig = (c[l] & 0x7fffff) | (field ? 1u << 23 : 0);
        int32_t down = most[l] - c_exp[l] + r->c_down;
        all[l] = sig << r->c_up >> (down < 31 ? down : 31);
        negative[l] = c[l] >> 31 ? all[l] : 0;
    }
}

/* The result of a lane; sets *odd where this is not it. */
MOE_INT_INLINE uint32_t finish(const lane_rule *r, int32_t most, uint32_t all, uint32_t negative,
                               uint32_t *odd) {
    const uint32_t positive = all - negative;
    const uint32_t sign = negative > positive ? 1u << 31 : 0;
    const uint32_t size = sign ? negative - positive : positive - negative;
    const uint32_t high = size >> 31, x = size >> high;
    /* Clearing the bits of x >> 24 clears the one that the conversion would round by. */
    const uint32_t bits = moe_int_f32_bits((float)(int32_t)(x & ~(x >> 24))) & r->fraction;
    const int32_t shift = most - r->kept + (int32_t)high, field = (int32_t)(bits >> 23) + shift;
    const uint32_t some = x != 0;
    *odd |= (some & (uint32_t)(field < 1 || field > 254)) | (uint32_t)(most >= LEAST_UNUSUAL);
    return some ? sign | (bits + ((uint32_t)shift << 23)) : 0;
}

MOE_INT_INLINE uint32_t dot_lanes(const lane_rule *r, const int16_t *a_sig, const int16_t *a_exp,
                                  const int16_t *b_sig, const int16_t *b_exp, uint32_t *c,
                                  uint32_t *odd) {
    int32_t most[LANES];
    uint32_t all[LANES], negative[LANES], any = 0;
    begin(r, a_exp, b_exp, c, most, all, negative);
    for (int i = 0; i < r->terms; i++)
        for (int l = 0; l < LANES; l++) {
            int32_t p = a_sig[i] * b_sig[i * LANES + l], down;
            uint32_t term = (uint32_t)(p < 0 ? -p : p) << r->up;
            down = most[l] - a_exp[i] - b_exp[i * LANES + l];
            term >>= down < 31 ? down : 31;
            all[l] += term;
            negative[l] += p < 0 ? term : 0;
        }
    for (int l = 0; l < LANES; l++) {
        uint32_t is_c_special = (c[l] >> 23 & 255) == 255, is_odd = is_c_special;
        uint32_t next = finish(r, most[l], all[l], negative[l], &is_odd);
        odd[l] = is_odd;
        any |= is_odd;
        c[l] = is_odd ? c[l] : next;
    }
    return any;
}

/* The loop over steps; what lanes do not do is done by the rule. */
MOE_INT_INLINE void dot_steps(const moe_int_dot_rule *rule, int fraction, const moe_int_factors *a,
                              const moe_int_factors *b, int64_t k, int64_t end, uint32_t *c) {
    const lane_rule r = lane_rule_of(rule, fraction);
    for (; k < end; k += r.terms) {
        const int16_t *a_sig = a->sig + k, *a_exp = a->exp + k;
        const int16_t *b_sig = b->sig + k * LANES, *b_exp = b->exp + k * LANES;
        uint32_t odd[LANES];
        if (dot_lanes(&r, a_sig, a_exp, b_sig, b_exp, c, odd))
            for (int l = 0; l < LANES; l++)
                if (odd[l])
                    c[l] = moe_int_dot(rule, fraction, a_sig, a_exp, b_sig + l, b_exp + l, LANES,
                                       c[l]);
    }
}

#if MOE_INT_HAVE_AVX2
MOE_INT_AVX2 static void dot_steps_avx2(const moe_int_dot_rule *rule, int fraction,
                                        const moe_int_factors *a, const moe_int_factors *b,
                                        int64_t k, int64_t end, uint32_t *c) {
    dot_steps(rule, fraction, a, b, k, end, c);
}
#endif

void moe_int_dot_lanes(const moe_int_dot_rule *rule, int fraction, const moe_int_factors *a,
                       const moe_int_factors *b, int64_t k, int64_t end,
                       uint32_t c[MOE_INT_LANES]) {
#if MOE_INT_HAVE_AVX2
    if (moe_int_cpu_avx2()) {
        dot_steps_avx2(rule, fraction, a, b, k, end, c);
        return;
    }
#endif
    dot_steps(rule, fraction, a, b, k, end, c);
}
