/* Chains: a whole dot product as a kernel makes it of fused sums. K is walked in blocks, a sum
 * starts from zero, and where there are several, they are added in fp32 afterwards. */
#ifndef MOE_REFERENCE_TENSORCORE_CHAIN_H
#define MOE_REFERENCE_TENSORCORE_CHAIN_H

#include "moeref/arithmetic.h"
#include "reference/tensorcore/pack.h"

/* An arithmetic with its unit. */
typedef struct moe_int_chain {
    const moe_int_unit *unit;
    moe_int_format format;
    moe_arithmetic how;
} moe_int_chain;

/* MOE_E_NOTFOUND: an unknown unit, or one that does not take the format; MOE_E_INVALID: a number
 * out of range. */
moe_status moe_int_chain_make(const moe_arithmetic *how, moe_int_format format, moe_int_chain *ret);

/* What its unit multiplies: MOE_INT_PACK_VALUES where that is fp32 numbers. */
moe_int_packing moe_int_chain_packing(const moe_int_chain *chain);

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
