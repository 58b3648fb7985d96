/* Factors of products whose sums cancel, the same for whoever multiplies them: codes of 16 or 8
 * bits, left [M][K] and right [N][K]. The first and the last product of a sum are large and
 * opposite; between them lie numbers of ordinary size. C and C++. */
#ifndef MOE_TESTS_PRODUCT_DATA_H
#define MOE_TESTS_PRODUCT_DATA_H

#include <stdint.h>

/* Of a moe_int_format: how its codes are laid out, and the exponent of the large factors. */
typedef struct product_format {
    const char *name;
    int fraction, bias, bits;
    int large;
} product_format;

static const product_format product_formats[] = {
    {"bf16", 7, 127, 16, 10}, {"fp16", 10, 15, 16, 9}, {"e4m3", 3, 7, 8, 3}, {"e5m2", 2, 15, 8, 3}};

/* A hash of an element's place (splitmix64). */
static inline uint64_t product_bits(uint64_t seed, uint64_t index) {
    uint64_t z = seed * 0x9e3779b97f4a7c15u + (index + 1) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* A number of either sign with a random fraction in [2^e, 2^(e+1)). */
static inline uint16_t product_code(int format, uint64_t bits, int e) {
    const product_format *f = &product_formats[format];
    const uint32_t fraction = (uint32_t)(bits & ((1u << f->fraction) - 1));
    const uint32_t sign = (uint32_t)(bits >> 63) << (f->bits - 1);
    return (uint16_t)(sign | (uint32_t)(e + f->bias) << f->fraction | fraction);
}

/* Element (i, k); `negate`: of the right operand, whose last column is opposite to its first. */
static inline uint16_t product_element(int format, uint64_t seed, int64_t i, int64_t k, int64_t K,
                                       int negate) {
    const product_format *f = &product_formats[format];
    const int last = K > 1 && k == K - 1;
    const uint64_t bits = product_bits(seed, (uint64_t)(i * K + (last ? 0 : k)));
    const int edge = k == 0 || last;
    const uint16_t code =
        product_code(format, bits, edge ? f->large : -(int)(product_bits(seed + 1, bits) % 4));
    return last && negate ? (uint16_t)(code ^ 1u << (f->bits - 1)) : code;
}

/* Seeds of the left and of the right operand. */
enum { PRODUCT_LEFT = 1, PRODUCT_RIGHT = 2 };

/* Of large products a sample is kept: up to PRODUCT_ROWS rows of PRODUCT_COLUMNS columns. */
enum { PRODUCT_ROWS = 8, PRODUCT_COLUMNS = 32 };
static inline int64_t product_row_step(int64_t M) {
    return M <= PRODUCT_ROWS ? 1 : M / PRODUCT_ROWS;
}

/* Probes of the order of a sum: K ones of which that at place p is huge, and that at q its
 * opposite. What is left are the ones that were added after both had met. Place `i` of the
 * PRODUCT_PLACES: every K/128-th product, and every fourth of the first 128. */
enum { PRODUCT_COARSE = 128, PRODUCT_FINE = 32, PRODUCT_PLACES = PRODUCT_COARSE + PRODUCT_FINE };
static inline int64_t product_place(int i, int64_t K) {
    return i < PRODUCT_COARSE ? i * K / PRODUCT_COARSE : 4 * (i - PRODUCT_COARSE);
}

#endif
