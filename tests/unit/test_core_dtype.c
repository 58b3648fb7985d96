/* Element types. Narrowing is judged against an independent method: the values of all bit
 * patterns are decoded by arithmetic, and what lies between two neighbours must round to the
 * nearer one, the midpoint to the even one. */
#include "moeref/dtype.h"
#include "moeref/rng.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A 16-bit format, the library's functions for it, and its parameters. */
typedef struct format {
    moe_dtype dtype;
    int mantissa, bias;
    uint16_t (*from_f64)(double);
    uint16_t (*from_f32)(float);
    float (*to_f32)(uint16_t);
} format;

static const format formats[] = {
    {MOE_F16, 10, 15, moe_f16_from_f64, moe_f16_from_f32, moe_f16_to_f32},
    {MOE_BF16, 7, 127, moe_bf16_from_f64, moe_bf16_from_f32, moe_bf16_to_f32},
};
#define N_FORMATS (sizeof(formats) / sizeof(formats[0]))

static unsigned infinity_of(const format *f) {
    return (unsigned)(2 * f->bias + 1) << f->mantissa;
}

/* The value of a non-negative pattern up to infinity's, where the format would go on: the
 * "next" number after the largest, which IEEE 754 compares with before it overflows. */
static double decode(const format *f, unsigned pattern) {
    unsigned field = pattern & ((1u << f->mantissa) - 1), exponent = pattern >> f->mantissa;
    if (exponent == 0)
        return ldexp(field, 1 - f->bias - f->mantissa);
    return ldexp(field + (1u << f->mantissa), (int)exponent - f->bias - f->mantissa);
}

Test(dtype, every_pattern_widens_to_its_value) {
    for (size_t k = 0; k < N_FORMATS; k++) {
        const format *f = &formats[k];
        for (unsigned p = 0; p < 0x8000; p++) {
            float got = f->to_f32((uint16_t)p), negative = f->to_f32((uint16_t)(p | 0x8000));
            if (p > infinity_of(f)) {
                cr_assert(isnan(got) && isnan(negative), "format %zu pattern %x", k, p);
                continue;
            }
            double want = p == infinity_of(f) ? INFINITY : decode(f, p);
            cr_assert(got == want && !signbit(got), "format %zu pattern %x: %g", k, p, got);
            cr_assert(negative == -want && signbit(negative), "format %zu pattern %x", k, p);
        }
    }
}

Test(dtype, every_pattern_survives_a_round_trip) {
    for (size_t k = 0; k < N_FORMATS; k++) {
        const format *f = &formats[k];
        for (unsigned p = 0; p < 0x10000; p++) {
            float value = f->to_f32((uint16_t)p);
            uint16_t back32 = f->from_f32(value), back64 = f->from_f64(value);
            cr_assert_eq(back32, back64, "format %zu pattern %x: %x %x", k, p, back32, back64);
            if (isnan(value)) /* a signalling NaN may become quiet, but stays a NaN of its sign */
                cr_assert(isnan(f->to_f32(back32)) && (back32 & 0x8000) == (p & 0x8000));
            else
                cr_assert_eq(back32, p, "format %zu pattern %x became %x", k, p, back32);
        }
    }
}

static void assert_rounds64(const format *f, double value, unsigned want) {
    uint16_t got = f->from_f64(value), negative = f->from_f64(-value);
    cr_assert_eq(got, want, "%s: %a became %x, want %x", moe_dtype_name(f->dtype), value, got,
                 want);
    cr_assert_eq(negative, want | 0x8000, "%s: %a", moe_dtype_name(f->dtype), -value);
}

static void assert_rounds32(const format *f, float value, unsigned want) {
    uint16_t got = f->from_f32(value);
    cr_assert_eq(got, want, "%s: %a became %x, want %x", moe_dtype_name(f->dtype), value, got,
                 want);
    cr_assert_eq(f->from_f32(-value), want | 0x8000, "%s: %a", moe_dtype_name(f->dtype), -value);
}

/* nextafter of a midpoint in double is the hard case of double rounding: through float it would
 * collapse onto the midpoint and tie to the wrong side. */
Test(dtype, between_neighbours_the_nearer_wins_and_ties_go_to_even) {
    for (size_t k = 0; k < N_FORMATS; k++) {
        const format *f = &formats[k];
        for (unsigned p = 0; p < infinity_of(f); p++) {
            double low = decode(f, p), high = decode(f, p + 1), middle = (low + high) / 2;
            unsigned even = p + (p & 1);
            assert_rounds64(f, middle, even);
            assert_rounds64(f, nextafter(middle, 0), p);
            assert_rounds64(f, nextafter(middle, INFINITY), p + 1);
            assert_rounds64(f, nextafter(low, INFINITY), p);
            assert_rounds64(f, nextafter(high, 0), p + 1);
            if (middle > FLT_MAX) /* the last binade's end is beyond binary32 */
                continue;
            assert_rounds32(f, (float)middle, even);
            assert_rounds32(f, nextafterf((float)middle, 0), p);
            assert_rounds32(f, nextafterf((float)middle, INFINITY), p + 1);
            assert_rounds32(f, nextafterf((float)low, INFINITY), p);
        }
    }
}

Test(dtype, double_rounding_examples) {
    /* 1 + half a bf16 step + a little: through binary32 this is a tie, which goes down to 1. */
    double above = 1 + 0x1p-8 + 0x1p-40;
    cr_assert_eq(moe_bf16_from_f32((float)above), 0x3f80);
    cr_assert_eq(moe_bf16_from_f64(above), 0x3f81);
    cr_assert_eq(moe_f16_from_f64(1 + 0x1p-11 + 0x1p-50), 0x3c01);
    cr_assert_eq(moe_f16_from_f64(1 + 0x1p-10 + 0x1p-11 - 0x1p-50), 0x3c01);
    /* Among subnormals too: half of the least one, and a little more. */
    cr_assert_eq(moe_f16_from_f64(0x1p-25), 0);
    cr_assert_eq(moe_f16_from_f64(0x1p-25 + 0x1p-77), 1);
    cr_assert_eq(moe_bf16_from_f64(0x1p-134), 0);
    cr_assert_eq(moe_bf16_from_f64(0x1p-134 + 0x1p-186), 1);
}

Test(dtype, extremes) {
    static const double tiny[] = {0.0, DBL_TRUE_MIN, DBL_MIN, 0x1p-1000, 0x1p-200};
    for (size_t k = 0; k < N_FORMATS; k++) {
        const format *f = &formats[k];
        for (size_t i = 0; i < sizeof(tiny) / sizeof(tiny[0]); i++)
            assert_rounds64(f, tiny[i], 0);
        assert_rounds64(f, DBL_MAX, infinity_of(f));
        assert_rounds64(f, 0x1p200, infinity_of(f));
        assert_rounds64(f, INFINITY, infinity_of(f));
        assert_rounds32(f, FLT_MAX, infinity_of(f));
        assert_rounds32(f, INFINITY, infinity_of(f));
        assert_rounds32(f, FLT_TRUE_MIN, 0);
    }
}

/* A NaN whose payload lies only in bits that are dropped must not turn into infinity. */
Test(dtype, nan_payloads_stay_nan) {
    for (int bit = 0; bit < 52; bit++) {
        uint64_t pattern64 = (uint64_t)0x7ff << 52 | (uint64_t)1 << bit;
        double nan64;
        memcpy(&nan64, &pattern64, 8);
        for (size_t k = 0; k < N_FORMATS; k++)
            cr_assert(isnan(formats[k].to_f32(formats[k].from_f64(nan64))), "bit %d", bit);
    }
    for (int bit = 0; bit < 23; bit++) {
        uint32_t pattern32 = 0xff800000u | 1u << bit;
        float nan32;
        memcpy(&nan32, &pattern32, 4);
        for (size_t k = 0; k < N_FORMATS; k++)
            cr_assert(isnan(formats[k].to_f32(formats[k].from_f32(nan32))), "bit %d", bit);
    }
}

Test(dtype, round_to_is_a_store_and_a_load) {
    static const double values[] = {1.0 / 3, 1e-6, 70000, 3e38, 1e39, -2.5e-41, 0.1, -0.0};
    for (int d = MOE_F64; d <= MOE_BF16; d++) {
        for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
            double stored[1];
            moe_store(stored, (moe_dtype)d, 0, values[i]);
            cr_assert_eq(moe_round_to(values[i], (moe_dtype)d), moe_load(stored, (moe_dtype)d, 0));
        }
        cr_assert(isnan(moe_round_to(NAN, (moe_dtype)d)));
        /* u is half the distance from 1 to the next number: 1 + u is a tie, 1 + 3u/2 is not. */
        double u = moe_dtype_roundoff((moe_dtype)d);
        cr_assert_eq(moe_round_to(1 + u, (moe_dtype)d), 1);
        cr_assert_eq(moe_round_to(1 + 2 * u, (moe_dtype)d), 1 + 2 * u);
    }
}

Test(dtype, names_sizes_and_roundoff) {
    static const struct {
        moe_dtype dtype;
        const char *name;
        size_t size;
        double roundoff;
    } want[MOE_DTYPE_COUNT] = {
        {MOE_F64, "fp64", 8, 0x1p-53}, {MOE_F32, "fp32", 4, 0x1p-24}, {MOE_F16, "fp16", 2, 0x1p-11},
        {MOE_BF16, "bf16", 2, 0x1p-8}, {MOE_I64, "i64", 8, 0},        {MOE_I32, "i32", 4, 0},
        {MOE_U8, "u8", 1, 0},
    };
    for (int i = 0; i < MOE_DTYPE_COUNT; i++) {
        moe_dtype parsed = MOE_DTYPE_COUNT;
        cr_assert_eq((int)want[i].dtype, i, "pinned value");
        cr_assert_str_eq(moe_dtype_name(want[i].dtype), want[i].name);
        cr_assert_eq(moe_dtype_size(want[i].dtype), want[i].size);
        cr_assert_eq(moe_dtype_roundoff(want[i].dtype), want[i].roundoff);
        cr_assert_eq(moe_dtype_parse(want[i].name, &parsed), MOE_OK);
        cr_assert_eq(parsed, want[i].dtype);
    }
    static const char *const unknown[] = {"", "fp8", "BF16", "bf16 ", "float", NULL};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        moe_dtype parsed = MOE_U8;
        cr_assert_eq(moe_dtype_parse(unknown[i], &parsed), MOE_E_NOTFOUND);
        cr_assert_eq(parsed, MOE_U8, "untouched on failure");
    }
    static const int outside[] = {-1, MOE_DTYPE_COUNT, 1000};
    for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
        cr_assert_eq(moe_dtype_size((moe_dtype)outside[i]), 0);
        cr_assert_eq(moe_dtype_roundoff((moe_dtype)outside[i]), 0);
        cr_assert_not_null(moe_dtype_name((moe_dtype)outside[i]));
    }
}

Test(dtype, integers_round_and_saturate) {
    static const struct {
        moe_dtype dtype;
        double value, want;
    } cases[] = {
        {MOE_I32, 2.5, 2},
        {MOE_I32, 3.5, 4},
        {MOE_I32, -2.5, -2},
        {MOE_I32, 1e10, 0x7fffffff},
        {MOE_I32, -1e10, -0x1p31},
        {MOE_I32, NAN, 0},
        {MOE_I32, INFINITY, 0x7fffffff},
        {MOE_U8, 255.4, 255},
        {MOE_U8, 256, 255},
        {MOE_U8, -1, 0},
        {MOE_U8, 0.5, 0},
        {MOE_U8, 1.5, 2},
        {MOE_I64, -0x1p63, -0x1p63},
        {MOE_I64, -0x1p70, -0x1p63},
        {MOE_I64, 0x1p62, 0x1p62},
        {MOE_I64, NAN, 0},
        {MOE_I64, -INFINITY, -0x1p63},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t storage = -1;
        moe_store(&storage, cases[i].dtype, 0, cases[i].value);
        cr_assert_eq(moe_load(&storage, cases[i].dtype, 0), cases[i].want, "case %zu", i);
    }
    int64_t largest = 0;
    moe_store(&largest, MOE_I64, 0, 0x1p63);
    cr_assert_eq(largest, INT64_MAX);
}

/* Values that exercise every branch of every pair, then noise. */
static void fill_values(double *values, size_t count) {
    static const double special[] = {
        0.0,    -0.0,  1,        -1,        0.5,     1.5,          2.5,       255.5,
        65504,  65520, 1e-8,     0x1p-24,   0x1p-25, 0x1.8p-25,    0x1p-133,  0x1p-149,
        3.4e38, 1e300, INFINITY, -INFINITY, NAN,     2147483647.5, 0x1p-1070, 1e-3};
    const size_t n = sizeof(special) / sizeof(special[0]);
    moe_rng_fill(values, MOE_F64, 0, count, MOE_FILL_OUTLIER, 3, 1, 1);
    for (size_t i = 0; i < count; i += 3)
        values[i] = special[i / 3 % n];
}

Test(dtype, bulk_conversion_equals_single_elements) {
    enum { MOST = 1600 };
    static const size_t counts[] = {0, 1, 2, 7, 31, 511, 512, 513, 1025, MOST - 8};
    double *values = malloc(MOST * 8);
    char *src = malloc(MOST * 8), *got = malloc(MOST * 8), *want = malloc(MOST * 8);
    fill_values(values, MOST);
    for (int pair = 0; pair < MOE_DTYPE_COUNT * MOE_DTYPE_COUNT; pair++) {
        moe_dtype from = (moe_dtype)(pair / MOE_DTYPE_COUNT);
        moe_dtype to = (moe_dtype)(pair % MOE_DTYPE_COUNT);
        for (size_t i = 0; i < MOST; i++)
            moe_store(src, from, i, values[i]);
        for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
            size_t skip = c % 4; /* addresses that are aligned to the element only */
            memset(got, 0x77, MOST * 8);
            memset(want, 0x77, MOST * 8);
            for (size_t i = 0; i < counts[c]; i++)
                moe_store(want, to, skip + i, moe_load(src, from, skip + i));
            if (from == to)
                memcpy(want + skip * moe_dtype_size(to), src + skip * moe_dtype_size(to),
                       counts[c] * moe_dtype_size(to));
            moe_convert(got + skip * moe_dtype_size(to), to, src + skip * moe_dtype_size(from),
                        from, counts[c]);
            cr_assert_eq(memcmp(got, want, MOST * 8), 0, "%s to %s, %zu elements",
                         moe_dtype_name(from), moe_dtype_name(to), counts[c]);
        }
    }
    free(values);
    free(src);
    free(got);
    free(want);
}

Test(dtype, large_integers_copy_exactly) {
    int64_t src[] = {INT64_MAX, INT64_MIN, 0x1p53 + 1, -1}, dst[4] = {0};
    moe_convert(dst, MOE_I64, src, MOE_I64, 4);
    cr_assert_arr_eq(src, dst, sizeof(src));
    moe_convert(src, MOE_I64, src, MOE_I64, 4); /* in place */
    cr_assert_arr_eq(src, dst, sizeof(src));
}
