/* Factors of products whose sums cancel, the same for whoever multiplies them: codes of 16 bits,
 * left [M][K] and right [N][K]. The first and the last product of a sum are large and opposite;
 * between them lie numbers of ordinary size. C and C++. */
#ifndef MOE_TESTS_PRODUCT_DATA_H
#define MOE_TESTS_PRODUCT_DATA_H

#include <stdint.h>

/* A hash of an element's place (splitmix64). */
static inline uint64_t product_bits(uint64_t seed, uint64_t index) {
    uint64_t z = seed * 0x9e3779b97f4a7c15u + (index + 1) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* A number of either sign with a random fraction in [2^e, 2^(e+1)). */
static inline uint16_t product_code(int is_fp16, uint64_t bits, int e) {
    const uint32_t sign = (uint32_t)(bits >> 63) << 15;
    if (is_fp16)
        return (uint16_t)(sign | (uint32_t)(e + 15) << 10 | (uint32_t)(bits & 0x3ff));
    return (uint16_t)(sign | (uint32_t)(e + 127) << 7 | (uint32_t)(bits & 0x7f));
}

/* Element (i, k); `negate`: of the right operand, whose last column is opposite to its first. */
static inline uint16_t product_element(int is_fp16, uint64_t seed, int64_t i, int64_t k, int64_t K,
                                       int negate) {
    const int large = is_fp16 ? 9 : 10;
    const int last = K > 1 && k == K - 1;
    const uint64_t bits = product_bits(seed, (uint64_t)(i * K + (last ? 0 : k)));
    const int edge = k == 0 || last;
    const uint16_t code =
        product_code(is_fp16, bits, edge ? large : -(int)(product_bits(seed + 1, bits) % 4));
    return last && negate ? (uint16_t)(code ^ 0x8000) : code;
}

#endif
