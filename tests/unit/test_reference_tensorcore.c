/* One fused sum: vectors that a device gave, special values, and lanes against the plain rules. */
#include "reference/tensorcore/lanes.h"
#include "tensorcore_vectors.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { MOST = 32, LANES = MOE_INT_LANES };

typedef struct factors {
    int16_t sig[MOST], exp[MOST];
} factors;

static factors decode(int format, const uint32_t *codes, int count) {
    factors f;
    for (int i = 0; i < MOST; i++) {
        moe_int_factor one = moe_int_decode((moe_int_format)format, i < count ? codes[i] : 0);
        f.sig[i] = one.sig;
        f.exp[i] = one.exp;
    }
    return f;
}

/* A whole instruction of `terms` products or several. */
static uint32_t dot_of(const moe_int_dot_rule *r, int format, const uint32_t *a, const uint32_t *b,
                       int count, uint32_t c) {
    const factors x = decode(format, a, count), y = decode(format, b, count);
    for (int i = 0; i < count; i += r->terms)
        c = moe_int_dot(r, moe_int_layouts[format].fraction, x.sig + i, x.exp + i, y.sig + i,
                        y.exp + i, 1, c);
    return c;
}

static uint32_t vector_result(const moe_int_dot_rule *r, const vector *v) {
    uint32_t a[MOST], b[MOST];
    const int count = v->format >= MOE_INT_FORMAT_E4M3 ? 32 : 16;
    vector_codes(v->format, v->a, count, a);
    vector_codes(v->format, v->b, count, b);
    return dot_of(r, v->format, a, b, count, v->c);
}

Test(tensorcore, vectors) {
    const moe_int_unit *unit = moe_int_unit_find("sm_90");
    cr_assert(unit && unit->verified);
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        uint32_t got = vector_result(&unit->rule[vectors[i].format], &vectors[i]);
        cr_expect_eq(got, vectors[i].want, "%s: 0x%08x, not 0x%08x", vectors[i].what, got,
                     vectors[i].want);
    }
}

/* Each vector tells a rule from its neighbours: with the neighbour's it has another result. */
Test(tensorcore, vectors_tell_rules_apart) {
    static const struct {
        size_t vector;
        moe_int_dot_rule rule;
        uint32_t want;
    } rows[] = {
        {0, {16, 24, 23, false}, 0x3f800000}, {1, {16, 26, 23, false}, 0x3f800001},
        {4, {8, 25, 23, false}, 0x3f800001},  {7, {32, 12, 13, false}, 0x3f800000},
        {8, {32, 14, 13, false}, 0x3f800400}, {10, {16, 13, 13, false}, 0x3f802000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint32_t got = vector_result(&rows[i].rule, &vectors[rows[i].vector]);
        cr_expect_eq(got, rows[i].want, "%s: 0x%08x", vectors[rows[i].vector].what, got);
    }
}

Test(tensorcore, special_values) {
    const moe_int_dot_rule *r = moe_int_unit_find("sm_90")->rule;
    const uint32_t one = 0x3f80, inf = 0x7f80, nan = 0x7fc0, minus = 0x8000;
    const struct {
        uint32_t a[2], b[2], c, want;
    } rows[] = {
        {{inf, one}, {one, one}, 0, 0x7f800000},
        {{inf, one}, {one | minus, one}, 0, 0xff800000},
        {{inf, 0}, {0, 0}, 0, 0x7fffffff},
        {{inf, inf}, {one, one | minus}, 0, 0x7fffffff},
        {{nan, 0}, {0, 0}, 0x3f800000, 0x7fffffff},
        {{one, 0}, {one, 0}, 0xff800000, 0xff800000},
        {{inf, 0}, {one, 0}, 0xff800000, 0x7fffffff},
        {{one, 0}, {one, 0}, 0x7fc01234, 0x7fffffff},
        {{one, 0}, {one, 0}, 0xffc01234, 0x7fffffff},
        {{0x7f00, 0x7f00}, {0x7f00, 0}, 0, 0x7f800000}, /* 2^254 is too large for fp32 */
        {{0x8000, 0}, {one, 0}, 0x80000000, 0},         /* sums that are 0 are +0 */
        {{0x0001, 0}, {one, 0}, 0, 0x00010000},         /* a subnormal */
        {{0x0080, 0}, {0x3500, 0}, 0, 0x00000004},      /* 2^-126 2^-21: below the normal numbers */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const uint32_t a[16] = {rows[i].a[0], rows[i].a[1]};
        const uint32_t b[16] = {rows[i].b[0], rows[i].b[1]};
        uint32_t got = dot_of(&r[MOE_INT_FORMAT_BF16], 0, a, b, 16, rows[i].c);
        cr_expect_eq(got, rows[i].want, "row %zu: 0x%08x, not 0x%08x", i, got, rows[i].want);
    }
    const uint32_t e4m3_nan[32] = {0x7f}, e4m3_one[32] = {0x38}, e4m3_most[32] = {0x7e};
    cr_expect_eq(dot_of(&r[MOE_INT_FORMAT_E4M3], 2, e4m3_nan, e4m3_one, 32, 0), 0x7fffffff);
    cr_expect_eq(dot_of(&r[MOE_INT_FORMAT_E4M3], 2, e4m3_most, e4m3_one, 32, 0), 0x43e00000);
}

/* mma.sync makes fp16 of 8-bit factors: a large product of k = 0 and its opposite of k = 1 leave
 * what another one of `small` is, if that is in the second sum. C comes last, to nearest. */
Test(tensorcore, eight_bits_as_fp16) {
    const moe_int_dot_rule *r = &moe_int_unit_find("sm_90.mma")->rule[MOE_INT_FORMAT_E4M3];
    const uint32_t large = 0x78, minus = 0x80, tiny = 0x01, quarter = 0x28; /* 256, 2^-9, 2^-2 */
    for (int small = 2; small < MOST; small++) {
        uint32_t a[MOST] = {large, large}, b[MOST] = {large, large | minus};
        a[small] = tiny;
        b[small] = quarter;
        const factors x = decode(MOE_INT_FORMAT_E4M3, a, MOST);
        const factors y = decode(MOE_INT_FORMAT_E4M3, b, MOST);
        const uint32_t got = moe_int_dot_by_fp16(r, 3, x.sig, x.exp, y.sig, y.exp, 1, 0);
        cr_expect_eq(got, small % 4 < 2 ? 0 : 0x3a000000u, "k %d: 0x%08x", small, got);
    }
    const uint32_t a[MOST] = {tiny, tiny, tiny}, b[MOST] = {0x38, 0x38, 0x38};
    const factors x = decode(MOE_INT_FORMAT_E4M3, a, MOST);
    const factors y = decode(MOE_INT_FORMAT_E4M3, b, MOST);
    cr_expect_eq(moe_int_dot_by_fp16(r, 3, x.sig, x.exp, y.sig, y.exp, 1, 0x47800000), 0x47800001,
                 "2^16 + 0.75 of its last place");
    cr_expect_eq(moe_int_dot_by_fp16(r, 3, x.sig, x.exp, y.sig, y.exp, 1, 0xffc01234), 0x7fffffff);
}

static uint64_t seed = 88172645463325252u;
static uint32_t draw(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 16);
}

/* A code whose exponent lies within `span` of 1, now and then any code at all. */
static uint32_t draw_code(int format, int span) {
    const struct vector_format *f = &vector_formats[format];
    const uint32_t any = draw() & ((1u << f->bits) - 1);
    if (draw() % 64 == 0)
        return any;
    int field = 1 - f->least - 1 + (int)(draw() % (unsigned)(2 * span + 1)) - span;
    const int top = (1 << (f->bits - 1 - f->fraction)) - 2;
    field = field < 0 ? 0 : field > top ? top : field;
    const uint32_t low = any & ((1u << f->fraction) - 1), sign = any >> (f->bits - 1);
    return sign << (f->bits - 1) | (uint32_t)field << f->fraction | low;
}

static void compare_lanes(const moe_int_unit *unit, int format, int span) {
    const moe_int_dot_rule *r = &unit->rule[format];
    int16_t a_sig[MOST], a_exp[MOST], b_sig[MOST * LANES], b_exp[MOST * LANES];
    uint32_t c[LANES], want[LANES];
    for (int i = 0; i < r->terms; i++) {
        moe_int_factor f = moe_int_decode((moe_int_format)format, draw_code(format, span));
        a_sig[i] = f.sig;
        a_exp[i] = f.exp;
    }
    for (int i = 0; i < r->terms * LANES; i++) {
        moe_int_factor f = moe_int_decode((moe_int_format)format, draw_code(format, span));
        b_sig[i] = f.sig;
        b_exp[i] = f.exp;
    }
    for (int l = 0; l < LANES; l++) {
        float v = ldexpf(1 + (float)(draw() % 8388608u) / 8388608, (int)(draw() % 9) - 4);
        memcpy(&c[l], &v, sizeof v);
        c[l] = draw() % 4 == 0 ? 0 : draw() % 64 == 0 ? draw() ^ draw() << 16 : c[l];
        want[l] = moe_int_dot(r, moe_int_layouts[format].fraction, a_sig, a_exp, b_sig + l,
                              b_exp + l, LANES, c[l]);
    }
    const moe_int_factors a = {a_sig, a_exp, NULL}, b = {b_sig, b_exp, NULL};
    moe_int_dot_lanes(r, moe_int_layouts[format].fraction, &a, &b, 0, r->terms, c);
    for (int l = 0; l < LANES; l++)
        cr_assert_eq(c[l], want[l], "%s %s: 0x%08x, not 0x%08x", unit->name,
                     moe_int_layouts[format].name, c[l], want[l]);
}

static bool takes_lanes(const moe_int_dot_rule *r) {
    return r->kept && !r->by_fp16;
}

Test(tensorcore, lanes_are_the_rules) {
    size_t count;
    const moe_int_unit *units = moe_int_units(&count);
    for (size_t u = 0; u < count; u++)
        for (int format = 0; format < MOE_INT_FORMATS; format++)
            for (int i = 0; takes_lanes(&units[u].rule[format]) && i < 4000; i++)
                compare_lanes(&units[u], format, i % 3 == 0 ? 2 : i % 3 == 1 ? 12 : 120);
}
