/* The pass over two tensors that fills a comparison's groups: scan.c makes it, compare.c judges. */
#ifndef MOE_CHECK_COMPARE_SCAN_H
#define MOE_CHECK_COMPARE_SCAN_H

#include "check/compare/compare.h"

typedef struct moe_int_scan {
    const moe_int_comparison *c;
    moe_int_layout layout;
    moe_gate gate;
    moe_int_group *groups;
    moe_int_group total;
    moe_int_rounding rounding;
    double worst_size; /* |z|, or |d| without variance, of the worst element */
    int64_t unwritten, swallowed;
    bool any_bad; /* some element is not a number where one is due, or one where none is */
    moe_tensor_verdict *v;
} moe_int_scan;

/* Adds up group g, and the worst element so far. */
void moe_int_scan_group(moe_int_scan *s, int64_t g);

#endif
