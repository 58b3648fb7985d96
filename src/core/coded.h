/* Rows in 8 bits: e4m3 codes, and a scale for each 128 of them, as DeepSeek-V3 sends tokens to
 * their experts (arXiv 2412.19437, section 3.3.2). */
#ifndef MOE_CORE_CODED_H
#define MOE_CORE_CODED_H

#include "moeref/tensor.h"

/* Values that share a scale, which is max |x| / 448 in float32. */
#define MOE_INT_CODED_BLOCK 128

/* Bytes of a row of d values: its codes [d], then its scales. */
int64_t moe_int_coded_bytes(int64_t d);
/* A value that is not finite becomes NaN, and has no part in the scale. */
void moe_int_code_row(const void *values, moe_dtype dtype, int64_t d, void *ret);
/* Codes times scales, each rounded once to `dtype`. */
void moe_int_decode_row(const void *coded, int64_t d, moe_dtype dtype, void *ret_values);
/* Rows [rows][d] become what codes stand for, so that coding them again changes nothing. */
void moe_int_settle_rows(void *values, moe_dtype dtype, int64_t rows, int64_t d);

#endif
