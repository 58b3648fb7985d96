/* Formats and units. A new unit is a row of the table. */
#include "reference/tensorcore/unit.h"
#include "core/simd.h"

#include <string.h>

const moe_int_layout moe_int_layouts[MOE_INT_FORMATS] = {
    [MOE_INT_FORMAT_BF16] = {"bf16", 2, 7, -126, true},
    [MOE_INT_FORMAT_FP16] = {"fp16", 2, 10, -14, true},
    [MOE_INT_FORMAT_E4M3] = {"e4m3", 1, 3, -6, false},
    [MOE_INT_FORMAT_E5M2] = {"e5m2", 1, 2, -14, true},
};

enum { ZERO_EXPONENT = -126 };

/* Straight-line code, so that compilers vectorise it. */
MOE_INT_INLINE void decode(const moe_int_layout *l, const uint16_t *codes, int64_t count,
                           int16_t *sig, int16_t *exp) {
    const int bits = 8 * l->bytes - 1, fraction = l->fraction;
    const uint16_t sizes = (uint16_t)((1 << bits) - 1), fractions = (uint16_t)((1 << fraction) - 1);
    const uint16_t infinity = l->infinities ? sizes ^ fractions : 0xffff;
    const uint16_t special = l->infinities ? infinity : sizes;
    const int16_t least = (int16_t)l->least, hidden = (int16_t)(1 << fraction);
    for (int64_t i = 0; i < count; i++) {
        const uint16_t size = codes[i] & sizes, field = (uint16_t)(size >> fraction);
        int16_t s = (int16_t)((size & fractions) | (field ? hidden : 0));
        int16_t e = (int16_t)(field ? field - 1 + least : least);
        e = s ? e : ZERO_EXPONENT;
        s = size >= special ? size == infinity : s;
        e = size >= special ? MOE_INT_SPECIAL : e;
        sig[i] = (int16_t)(codes[i] > sizes ? -s : s);
        exp[i] = e;
    }
}

#if MOE_INT_HAVE_AVX2
MOE_INT_AVX2 static void decode_avx2(const moe_int_layout *l, const uint16_t *codes, int64_t count,
                                     int16_t *sig, int16_t *exp) {
    decode(l, codes, count, sig, exp);
}
#endif

void moe_int_decode_all(moe_int_format format, const uint16_t *codes, int64_t count, int16_t *sig,
                        int16_t *exp) {
#if MOE_INT_HAVE_AVX2
    if (moe_int_cpu_avx2()) {
        decode_avx2(&moe_int_layouts[format], codes, count, sig, exp);
        return;
    }
#endif
    decode(&moe_int_layouts[format], codes, count, sig, exp);
}

moe_int_factor moe_int_decode(moe_int_format format, uint32_t code) {
    const uint16_t one = (uint16_t)code;
    moe_int_factor f;
    moe_int_decode_all(format, &one, 1, &f.sig, &f.exp);
    return f;
}

/* clang-format off */

/* Without 8-bit formats. */
#define SUM(terms, kept, out) {terms, kept, out, false}
#define BY_FP16(terms, kept, out) {terms, kept, out, true}
#define NO_FP8 SUM(0, 0, 0), SUM(0, 0, 0)
#define ALL(terms, kept, out) {SUM(terms, kept, out), SUM(terms, kept, out), SUM(terms, kept, out), SUM(terms, kept, out)}

static const moe_int_unit units[] = {
    {"sm_90", "Hopper's wgmma", true,
     {SUM(16, 25, 23), SUM(16, 25, 23), SUM(32, 13, 13), SUM(32, 13, 13)}},
    {"sm_90.mma", "Hopper's mma.sync", true,
     {SUM(16, 25, 23), SUM(16, 25, 23), BY_FP16(16, 25, 23), BY_FP16(16, 25, 23)}},
    {"sm_100", "Blackwell's tcgen05.mma", false,
     {SUM(16, 25, 23), SUM(16, 25, 23), SUM(32, 25, 23), SUM(32, 25, 23)}},
    {"sm_89", "Ada's mma.sync: K = 16 in two sums of 8, fp8's K = 32 in two of 16", false,
     {SUM(8, 24, 23), SUM(8, 24, 23), SUM(16, 13, 13), SUM(16, 13, 13)}},
    {"sm_80", "Ampere's mma.sync: K = 16 in two sums of 8", false,
     {SUM(8, 24, 23), SUM(8, 24, 23), NO_FP8}},
    {"sm_90.tf32", "Hopper's tf32 on the same values: sums of 8", false,
     {SUM(8, 25, 23), SUM(8, 25, 23), NO_FP8}},
    {"sm_80.tf32", "Ampere's tf32 on the same values: sums of 4", false,
     {SUM(4, 24, 23), SUM(4, 24, 23), NO_FP8}},
    {"fp32", "fp32 multiply and add, one product after the other", true, ALL(1, 0, 23)},
};

/* clang-format on */

const moe_int_unit *moe_int_units(size_t *ret_count) {
    *ret_count = sizeof units / sizeof *units;
    return units;
}

const moe_int_unit *moe_int_unit_find(const char *name) {
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(units[i].name, name) == 0)
            return &units[i];
    return NULL;
}
