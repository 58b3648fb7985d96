/* Counter-based random numbers: element i of stream s under seed k is a pure function of
 * (k, s, i), with the same bits on every machine and on a GPU.
 *
 * The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as
 * easy as 1, 2, 3", SC'11), key = (seed low, seed high), counter = (index low, index high,
 * stream low, stream high). */
#ifndef MOEREF_RNG_H
#define MOEREF_RNG_H

#include "moeref/dtype.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One Philox4x32-10 block. Thread-safety: any thread (so are all functions here). */
MOE_API void moe_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t ret[4]);

/* 64 uniform bits: the block's words 0 and 1. */
MOE_API uint64_t moe_rng_bits(uint64_t seed, uint64_t stream, uint64_t index);

/* Uniform in [0, 1): the top 53 of those bits times 2^-53, exact. */
MOE_API double moe_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index);

/* Nearly N(0,1): the sum of the block's eight 16-bit halves (an Irwin-Hall sum, exact in
 * integers), centred by 8*65535/2 and divided by its standard deviation. No libm, hence the
 * same bits everywhere; the support ends at 4.9 standard deviations. */
MOE_API double moe_rng_normal(uint64_t seed, uint64_t stream, uint64_t index);

/* How a tensor is filled. */
typedef enum moe_fill_kind {
    MOE_FILL_NORMAL = 0,  /* scale * normal */
    MOE_FILL_OUTLIER = 1, /* the same, one element in 256 multiplied by 32: those whose block's four
                             words have an exclusive or with a zero low byte */
    MOE_FILL_INTEGER = 2, /* uniform integers in [-3, 3], floor(7 * word 0 / 2^32) - 3, times
                             scale: sums stay exact */
    MOE_FILL_ZERO = 3,
    MOE_FILL_EXACT = 4, /* -1, 0, 0 or 1, by the top two bits of word 0, times scale: so small that
                           every result of a linear layer fits into bf16 */
    MOE_FILL_CANCEL = 5 /* as normal; a case then makes the first and last terms of its sums large
                           and opposite (case.h) */
} moe_fill_kind;

/* Fills data[0..count) with elements first .. first+count-1 of the stream, each rounded once to
 * dtype. The bits do not depend on how a tensor is split into calls or threads. */
MOE_API void moe_rng_fill(void *data, moe_dtype dtype, size_t first, size_t count,
                          moe_fill_kind kind, double scale, uint64_t seed, uint64_t stream);

#ifdef __cplusplus
}
#endif
#endif
