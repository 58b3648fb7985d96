/* Chains: a whole dot product as a kernel makes it of fused sums. K is walked in blocks, a sum
 * starts from zero, and where there are several, they are added in fp32 afterwards. */
#ifndef MOE_REFERENCE_TENSORCORE_CHAIN_H
#define MOE_REFERENCE_TENSORCORE_CHAIN_H

#include "moeref/arithmetic.h"
#include "reference/tensorcore/lanes.h"

/* An arithmetic with its unit. */
typedef struct moe_int_chain {
    const moe_int_unit *unit;
    moe_int_format format;
    moe_arithmetic how;
} moe_int_chain;

/* MOE_E_NOTFOUND: an unknown unit, or one that does not take the format; MOE_E_INVALID: a number
 * out of range. */
moe_status moe_int_chain_make(const moe_arithmetic *how, moe_int_format format, moe_int_chain *ret);

/* One matrix as the left or right operand: element (i, k) is the code at
 * i_map[i] * i_stride + k_map[k] * k_stride; a map that is NULL is the identity. */
typedef struct moe_int_operand {
    const void *codes;
    int64_t i_stride, k_stride;
    const int32_t *i_map, *k_map;
} moe_int_operand;

/* Factors of an operand, zero-filled to whole blocks of K and whole groups of lanes. */
typedef struct moe_int_packed {
    moe_int_factors all;
    int64_t count, k; /* before zeros were added */
    int64_t padded;   /* k with them */
} moe_int_packed;
typedef enum moe_int_packing {
    MOE_INT_PACK_LEFT = 0,
    MOE_INT_PACK_RIGHT = 1,
    MOE_INT_PACK_VALUES = 2 /* for units of fp32 too */
} moe_int_packing;
moe_status moe_int_pack(const moe_int_operand *from, moe_int_format format, moe_int_packing how,
                        int64_t count, int64_t k, moe_int_packed *ret);
void moe_int_packed_destroy(moe_int_packed *p);

/* ret[l] = row i of `left` times columns MOE_INT_LANES * group + l of `right`, in fp32. */
void moe_int_chain_row(const moe_int_chain *chain, const moe_int_packed *left, int64_t i,
                       const moe_int_packed *right, int64_t group, float *ret);

/* What the chain does on its way to one element, for a report: called with each block of K and the
 * accumulator after it. */
typedef void (*moe_int_watch)(void *user, int64_t first_k, float accumulator);
void moe_int_chain_watch(const moe_int_chain *chain, const moe_int_packed *left, int64_t i,
                         const moe_int_packed *right, int64_t group, int lane, moe_int_watch each,
                         void *user);

#endif
