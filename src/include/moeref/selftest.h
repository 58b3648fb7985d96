/* The judge judged: faults that are planted in a backend, which a check must notice and name.
 *
 * The faulty backend (backends/faulty) is a complete float32 backend, right without a fault; with
 * the variant "bf16.NAME" it stores in bf16 and is wrong in one place. A fault that a check lets
 * pass is a hole in the judge, or in the case that it was tried on. */
#ifndef MOEREF_SELFTEST_H
#define MOEREF_SELFTEST_H

#include "moeref/check.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One row of the table.
 * Thread-safety: constant. */
typedef struct moe_fault {
    const char *name;   /* of the variant: renorm_missing ... */
    const char *group;  /* what kind of fault: factor, rows, gradient ... */
    const char *what;   /* one clause: "weights are not renormalised" */
    const char *causes; /* moe_explanation.kind of hypotheses that name it, apart by blanks */
    const char *words;  /* or these words of the report's reason do; "": none */
    int32_t types;      /* bits 1, 2, 4: a fault in fp32, bf16, fp16; 8: ambiguous is enough;
                           16: with a recipe pinned */
    int32_t layer;      /* which one shows it: moe_fault_line */
} moe_fault;

/* All of them, in a fixed order. */
MOE_API const moe_fault *moe_faults(size_t *ret_count);

/* The case that shows it: a small layer, or the same at the size of a real one. */
MOE_API void moe_fault_line(const moe_fault *fault, moe_dtype dtype, bool large, char *ret,
                            size_t size);

/* Is it one where results are stored in `dtype` (MOE_F32, MOE_BF16 or MOE_F16)? Elsewhere it
 * changes less than rounding does. */
MOE_API bool moe_fault_applies(const moe_fault *fault, moe_dtype dtype);

/* The recipe that a check must be told for it to be a fault, or NULL. */
MOE_API const char *moe_fault_recipe(const moe_fault *fault);

/* What became of one fault.
 * Thread-safety: plain data. */
typedef struct moe_kill {
    bool caught;    /* the check failed */
    bool named;     /* and said why */
    char by[24];    /* the tensor that failed first; "": none did, the rule is in `why` */
    char why[160];  /* which gate or rule; "" if nothing was noticed */
    char cause[32]; /* moe_explanation.kind; "": no hypothesis explains it */
} moe_kill;

/* From the verdict on the backend that had it. */
MOE_API moe_kill moe_kill_of(const moe_fault *fault, const moe_check_result *result);

/* Does the fault that `faulty` was opened with change a bit of any result of `problem`, in one of
 * three runs? `right` is the same copy without a fault. What it does beside results (buffers,
 * memory, inputs) is not seen. */
MOE_API moe_status moe_selftest_differs(moe_backend *right, moe_backend *faulty,
                                        const moe_problem *problem, bool *ret);

#ifdef __cplusplus
}
#endif
#endif
