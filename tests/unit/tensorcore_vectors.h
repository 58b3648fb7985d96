/* Dot steps with a result of Hopper's wgmma that another rule would not give, and how to encode
 * them. Plain C++ too: the device's test runs the same. */
#ifndef MOE_TESTS_TENSORCORE_VECTORS_H
#define MOE_TESTS_TENSORCORE_VECTORS_H

#include <stdint.h>

enum { VECTOR_MOST = 3 };

/* a[i] = sign * 2^exp, `count` times, one run after the other; the rest is zero. */
typedef struct vector_run {
    int count;
    double value;
} vector_run;

typedef struct vector {
    int format; /* moe_int_format */
    const char *what;
    vector_run a[VECTOR_MOST], b[VECTOR_MOST];
    uint32_t c, want;
    const char *other; /* what another hypothesis gives */
} vector;

static const vector vectors[] = {
    {0,
     "25 bits are kept",
     {{1, 1}, {4, 0x1p-12}},
     {{1, 1}, {4, 0x1p-13}},
     0,
     0x3f800001,
     "0x3f800000 with 24"},
    {0,
     "the 26th is dropped",
     {{1, 1}, {8, 0x1p-13}},
     {{1, 1}, {8, 0x1p-13}},
     0,
     0x3f800000,
     "0x3f800001 with 26"},
    {0,
     "products are not normalised",
     {{1, 1.5}, {8, 0x1p-12}},
     {{1, 1.5}, {8, 0x1p-13}},
     0,
     0x40100001,
     "0x40100000 if they were"},
    {0,
     "C is in the same sum",
     {{4, 0x1p-12}},
     {{4, 0x1p-13}},
     0x3f800000,
     0x3f800001,
     "0x3f800000 added after it"},
    {0,
     "one sum of 16",
     {{8, 0x1p-13}, {1, 1}},
     {{8, 0x1p-13}, {1, 1}},
     0,
     0x3f800000,
     "0x3f800001 with two sums of 8"},
    {0,
     "terms are cut toward zero",
     {{1, 1}, {4, -0x1p-13}},
     {{1, 1}, {4, 0x1p-13}},
     0,
     0x3f800000,
     "0x3f7ffffe toward minus infinity"},
    {0,
     "the sum is cut toward zero",
     {{1, 1}, {3, 0x1p-12}},
     {{1, 1}, {3, 0x1p-13}},
     0,
     0x3f800000,
     "0x3f800001 to nearest"},
    {2,
     "fp8: 13 bits are kept",
     {{1, 1}, {1, 0x1p-6}},
     {{1, 1}, {1, 0x1p-7}},
     0,
     0x3f800400,
     "0x3f800000 with 12"},
    {2,
     "fp8: the 14th is dropped",
     {{1, 1}, {2, 0x1p-7}},
     {{1, 1}, {2, 0x1p-7}},
     0,
     0x3f800000,
     "0x3f800400 with 14"},
    {2,
     "fp8: C is cut too",
     {{0, 0}},
     {{0, 0}},
     0x3f800200,
     0x3f800000,
     "0x3f800200 if C is whole"},
    {2,
     "fp8: one sum of 32",
     {{16, 0x1p-7}, {1, 1}},
     {{16, 0x1p-7}, {1, 1}},
     0,
     0x3f800000,
     "0x3f802000 with two sums of 16"},
};

static const struct vector_format {
    int bits, fraction, least;
} vector_formats[] = {{16, 7, -126}, {16, 10, -14}, {8, 3, -6}, {8, 2, -14}};

/* The code of +-2^exp * (1 + m/2^fraction) or 0, which the format holds. */
static inline uint32_t vector_code(int format, double value) {
    const struct vector_format *f = &vector_formats[format];
    uint32_t sign = value < 0, field = 0;
    double size = sign ? -value : value, one = 1;
    int exp = 0;
    if (size == 0)
        return 0;
    while (size >= 2 * one || size < one) {
        exp += size < one ? -1 : 1;
        one *= size < one ? 0.5 : 2;
        if (exp == f->least)
            break;
    }
    if (size >= one)
        field = (uint32_t)(exp - f->least + 1);
    uint32_t fraction = (uint32_t)((size / one - (field ? 1 : 0)) * (1 << f->fraction));
    return sign << (f->bits - 1) | field << f->fraction | fraction;
}

/* Codes of a vector's factors; `count` is at least as many as it has. */
static inline void vector_codes(int format, const vector_run *runs, int count, uint32_t *ret) {
    int at = 0;
    for (int r = 0; r < VECTOR_MOST; r++)
        for (int i = 0; i < runs[r].count; i++)
            ret[at++] = vector_code(format, runs[r].value);
    while (at < count)
        ret[at++] = 0;
}

#endif
