/* Arithmetic units that multiply matrices, as rules on integers.
 *
 * A tensor core adds `terms` products and the accumulator C in one fused sum, in no order:
 *   1. a product's significand is exact and not normalised, in [1, 4); its exponent is the sum of
 *      the factors' exponents. A subnormal has its format's least exponent, a zero -126.
 *   2. the largest exponent m of all products and of C counts. Every term is truncated toward zero
 *      to a multiple of 2^(m - kept).
 *   3. what is left is added exactly; the sum is truncated toward zero to `out` fraction bits, and
 *      to a multiple of 2^-149, as an fp32 number.
 *   4. a NaN anywhere, inf * 0 or inf - inf is 0x7fffffff; other infinities pass.
 * Sources: MMA-Sim (arXiv 2511.10909), Khattak and Mikaitis (arXiv 2512.07004). README.md has
 * examples, and says what was compared with a device. */
#ifndef MOE_REFERENCE_TENSORCORE_UNIT_H
#define MOE_REFERENCE_TENSORCORE_UNIT_H

#include "moeref/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum moe_int_format {
    MOE_INT_FORMAT_BF16,
    MOE_INT_FORMAT_FP16,
    MOE_INT_FORMAT_E4M3,
    MOE_INT_FORMAT_E5M2,
    MOE_INT_FORMATS
} moe_int_format;

/* Of one operand's elements. */
typedef struct moe_int_layout {
    const char *name;
    int bytes, fraction; /* bits of the fraction */
    int least;           /* exponent of subnormals and of the smallest normal number */
    bool infinities;     /* false: only the code of all ones is none, a NaN */
} moe_int_layout;
extern const moe_int_layout moe_int_layouts[MOE_INT_FORMATS];

/* An element as the unit takes it: sig * 2^(exp - fraction). */
typedef struct moe_int_factor {
    int16_t sig; /* with its sign */
    int16_t exp; /* MOE_INT_SPECIAL: an infinity of the sign of sig, a NaN with sig 0 */
} moe_int_factor;
enum { MOE_INT_SPECIAL = 8192 };
moe_int_factor moe_int_decode(moe_int_format format, uint32_t code);
/* Many; those of 8 bits lie in 16. */
void moe_int_decode_all(moe_int_format format, const uint16_t *codes, int64_t count, int16_t *sig,
                        int16_t *exp);

/* terms 0: the unit does not take that format; kept 0: a product and a sum, both rounded to nearest
 * in fp32 (a product of 16-bit factors is exact there: fused or not is the same). */
typedef struct moe_int_dot_rule {
    int terms, kept, out;
    bool by_fp16; /* 8-bit factors are made fp16, and moe_int_dot_by_fp16 is the step */
} moe_int_dot_rule;

typedef struct moe_int_unit {
    const char *name, *what;
    bool verified; /* on a device; false: as published */
    moe_int_dot_rule rule[MOE_INT_FORMATS];
} moe_int_unit;

/* The table, architectures first. */
const moe_int_unit *moe_int_units(size_t *ret_count);
const moe_int_unit *moe_int_unit_find(const char *name); /* NULL: there is none */

/* One fused sum of `terms` products a[i] b[i * stride] and c, fp32 bits all. `fraction` is the
 * factors'. Any rule with kept > 0. */
uint32_t moe_int_dot(const moe_int_dot_rule *rule, int fraction, const int16_t *a_sig,
                     const int16_t *a_exp, const int16_t *b_sig, const int16_t *b_exp, int stride,
                     uint32_t c);

/* One block of 32 products of 8-bit factors where they are multiplied as fp16: those with
 * k % 4 < 2 are a first sum, from zero, the others a second one on top of it, and what they make is
 * added to c in fp32, to nearest. The same arguments. */
uint32_t moe_int_dot_by_fp16(const moe_int_dot_rule *rule, int fraction, const int16_t *a_sig,
                             const int16_t *a_exp, const int16_t *b_sig, const int16_t *b_exp,
                             int stride, uint32_t c);

#endif
