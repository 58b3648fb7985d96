/* Formats and units. A new unit is a row of the table. */
#include "reference/tensorcore/unit.h"

#include <string.h>

const moe_int_layout moe_int_layouts[MOE_INT_FORMATS] = {
    [MOE_INT_FORMAT_BF16] = {"bf16", 2, 7, -126, true},
    [MOE_INT_FORMAT_FP16] = {"fp16", 2, 10, -14, true},
    [MOE_INT_FORMAT_E4M3] = {"e4m3", 1, 3, -6, false},
    [MOE_INT_FORMAT_E5M2] = {"e5m2", 1, 2, -14, true},
};

enum { ZERO_EXPONENT = -126 };

moe_int_factor moe_int_decode(moe_int_format format, uint32_t code) {
    const moe_int_layout *l = &moe_int_layouts[format];
    const int bits = 8 * l->bytes - 1;
    const uint32_t fraction = code & ((1u << l->fraction) - 1);
    const uint32_t field = (code & ((1u << bits) - 1)) >> l->fraction;
    const uint32_t top = (1u << (bits - l->fraction)) - 1;
    const int sign = code >> bits & 1 ? -1 : 1;
    if (field == top && l->infinities)
        return (moe_int_factor){(int16_t)(fraction ? 0 : sign), MOE_INT_SPECIAL};
    if (field == top && fraction == (1u << l->fraction) - 1)
        return (moe_int_factor){0, MOE_INT_SPECIAL};
    const int sig = (int)(field ? fraction | 1u << l->fraction : fraction);
    const int exp = sig == 0 ? ZERO_EXPONENT : field ? (int)field - 1 + l->least : l->least;
    return (moe_int_factor){(int16_t)(sign * sig), (int16_t)exp};
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
