/* How a kernel multiplies matrices, in so much detail that its bits follow from it. */
#ifndef MOEREF_ARITHMETIC_H
#define MOEREF_ARITHMETIC_H

#include "moeref/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In which order the blocks of K (16 products of 16-bit factors, 32 of 8-bit ones) are added. */
typedef enum moe_k_order {
    MOE_K_ASCENDING = 0,
    MOE_K_DESCENDING = 1,
    MOE_K_ORDER_COUNT
} moe_k_order;

/* An element of a product is a chain of fused sums of `unit` over the blocks of K, or several
 * chains, whose sums are then added in fp32. All numbers 0: one ascending chain from zero.
 * Thread-safety: plain data. */
typedef struct moe_arithmetic {
    char unit[16];   /* "sm_90", "sm_80" ...: src/reference/tensorcore/README.md lists them */
    int32_t order;   /* moe_k_order */
    int32_t split;   /* K in so many parts of whole groups of `block`, each a chain, all as long as
                        the first but for the last ones, which have what is left (so there may be
                        fewer); 0 or 1: not split */
    int32_t warps;   /* every `warps`-th group of `block` is a chain; 0 or 1: not so */
    int32_t block;   /* products in such a group; 0: one block */
    int32_t promote; /* after so many products a chain ends and the next one begins; 0: never */
    int32_t carry;   /* moe_dtype that an accumulator takes between groups of `block`; 0: none */
    int32_t gates_first; /* interleaved layers: in dX~ the hidden units' gates are added before all
                            ups, as they lie in a concat layer */
    int32_t fused; /* 1: in O and dX a pair is added by one fused multiply-add, as a bias to a sum
                      that is multiplied by its weight; 0: the product is rounded to fp32 first */
    int32_t weighs_sums; /* weights on the input: 1: the sum over x is multiplied by the weight, and
                            dW1 is made of s*dH, rounded; 0: s*x is rounded, and multiplied */
    int32_t act_ulp;     /* A, dH and dW2's s*A are roundings of a value that errs by act_ulp (1+y)
                            2^-24 of itself at most (of the sum of its terms' sizes), with
                            y = |x| + |log(phi(x) / x)| of the activation phi; 0: 16 */
} moe_arithmetic;

/* Arithmetics that moeref knows, 0 ..: what a backend may use, and what may be mistaken for it.
 * Returns how many there are. */
MOE_API size_t moe_arithmetics(const moe_arithmetic **ret);
/* "sm_90", "sm_90 in 4 parts of K", "sm_90, a new sum every 128 products" ... */
MOE_API char *moe_arithmetic_name(const moe_arithmetic *how, char *buf, size_t size);
/* The unit's name, then "+split=4", "+promote=128", "+warps=2", "+block=64", "+descending",
 * "+fused" ... as check --bits takes it. MOE_E_NOTFOUND leaves *ret alone. */
MOE_API moe_status moe_arithmetic_parse(const char *text, moe_arithmetic *ret);

#ifdef __cplusplus
}
#endif
#endif
