/* The reference's linear algebra: plain loops over row-major matrices. Each output element is one
 * sum, added in ascending order of its index; threads share out rows, never a sum. */
#ifndef MOE_REFERENCE_LOOPS_H
#define MOE_REFERENCE_LOOPS_H

#include "reference/real.h"

#define loop_linear REAL(moe_int_loop_linear)
#define loop_times  REAL(moe_int_loop_times)
#define loop_outer  REAL(moe_int_loop_outer)
#define loop_square REAL(moe_int_loop_square)
#define loop_round  REAL(moe_int_loop_round)

/* out[r][o] = sum_i x[r][i] w[o][i] + b[o]; b may be NULL. */
void loop_linear(const real *x, int64_t rows, int64_t in, const real *w, int64_t outs,
                 const real *b, int threads, real *out);

/* out[r][i] = sum_o g[r][o] w[o][i] */
void loop_times(const real *g, int64_t rows, int64_t outs, const real *w, int64_t in, int threads,
                real *out);

/* out[o][i] = sum_r g[r][o] x[r][i] */
void loop_outer(const real *g, int64_t rows, int64_t outs, const real *x, int64_t in, int threads,
                real *out);

/* out[i] = x[i]^2 */
void loop_square(const real *x, int64_t count, real *out);

/* Rounds in place to what `dtype` stores; nothing for MOE_F64 and MOE_F32. */
void loop_round(real *x, int64_t count, moe_dtype dtype);

#endif
