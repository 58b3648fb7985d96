/* Correct kernels that are not the reference: the reference's own code over other sums and another
 * exponential. Every one of them must pass. */
#ifndef MOE_TESTS_ODD_H
#define MOE_TESTS_ODD_H

#include "moeref/reference.h"

typedef enum odd_sums {
    ODD_ASCENDING,
    ODD_DESCENDING,
    ODD_SPLIT_K,
    ODD_TRUNCATING,  /* over blocks of 16, each added exactly */
    ODD_STEPS_OF_16, /* as Hopper's tensor cores */
    ODD_STEPS_OF_8,  /* as Ampere's */
    ODD_FUSED,       /* multiply-adds that round once */
    ODD_SUMS
} odd_sums;

typedef enum odd_exp {
    ODD_EXP,
    ODD_EXP2,    /* 2^(x log2 e), an ulp or two off */
    ODD_BY_TANH, /* sigmoid(x) = 0.5 tanh(x/2) + 0.5 */
    ODD_EXPS
} odd_exp;

/* For the runs that follow. */
void odd_set_sums(odd_sums sums);
void odd_set_exp(odd_exp way);

/* As moe_int_run_f32 of the reference. */
moe_status moe_int_run_odd(const moe_layer_desc *desc, const moe_tensors *in,
                           const moe_reference_params *params, int threads, const moe_log *log,
                           moe_reference_result *res);

#endif
