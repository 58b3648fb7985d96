/* Two tensors against each other under a gate: compare.c counts, gates.c holds the limits, where.c
 * says where an error is. */
#ifndef MOE_CHECK_COMPARE_COMPARE_H
#define MOE_CHECK_COMPARE_COMPARE_H

#include "check/compare/layout.h"
#include "check/errors/rows.h"
#include "moeref/check.h"

/* The narrowest rows that the gates were measured on. */
#define MOE_INT_GATE_WIDTH 768

/* The gate of what a kernel of bf16 or fp16 keeps in fp32. */
moe_gate moe_int_gate_in_fp32(void);

/* A mean of n squared independent errors scatters around its expectation as chi^2_n / n; this is
 * that variable's 1 - 1e-5 quantile: 1.2 for 768, 4.8 for 8, 21 for 1. */
double moe_int_chi2_quantile(double n);

typedef struct moe_int_comparison {
    moe_tensor_id id;
    moe_dtype arithmetic;
    uint32_t points; /* of the recipe; 0: not known */
    const moe_layer_desc *desc;
    const moe_tensor *got, *want; /* same shape; elements in the order of `layout` */
    const moe_tensor *variance;   /* float64, in units of u^2/3 and without the storing of the
                                     result itself (errors.h), or NULL */
    const moe_int_rows *rows;     /* of the whole truth, or NULL */
    bool promised_fp32;           /* though the arithmetic is bf16 or fp16 */
    bool in_fp32;                 /* and as exact: nothing of 16 bits went into it */
    const moe_plan *plan;         /* of the whole tensor, or NULL */
    const moe_int_layout *layout; /* NULL: the whole tensor's */
    const moe_tensor *whole;      /* shape that indices are reported in; NULL: got's */
    const char *truth;            /* "oracle", "golden", "sampled" */
} moe_int_comparison;

void moe_int_compare(const moe_int_comparison *c, moe_tensor_verdict *ret);

/* Fails what was promised in fp32 and looks rounded to 16 bits, and says so of what failed in fp32.
 */
void moe_int_judge_type(const moe_int_comparison *c, moe_tensor_verdict *v);

/* One group's sums; compare.c fills an array of them, where.c reads it. */
typedef struct moe_int_group {
    double d2, r2; /* sum of (got - want)^2, of want^2 */
    double e2;     /* sum of d^2 that a correct kernel makes (0 without variance) */
    double e4;     /* e2^2 over its degrees of freedom: sum of squares (Satterthwaite) */
    double z2;
    int64_t n;       /* elements compared */
    int64_t off;     /* elements that differ at all */
    int64_t nonzero; /* elements whose truth is not 0 */
    int64_t bad;     /* unwritten, or not finite where the truth is */
} moe_int_group;

/* NMSE under the gate; or, where the errors that a correct kernel makes here are above it (a result
 * that cancels, a handful of elements), under twice those with the scatter of so few. */
bool moe_int_group_passes(const moe_int_group *g, double gate);

/* Writes where the failing groups are concentrated ("tokens 128..164, all of expert 17").
 */
void moe_int_where(const moe_int_comparison *c, const moe_int_layout *layout,
                   const moe_int_group *groups, double gate, char *ret, size_t size);

#endif
