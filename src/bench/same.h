/* Are the results of the last timed run those of the first run? */
#ifndef MOE_BENCH_SAME_H
#define MOE_BENCH_SAME_H

#include "moeref/backend.h"
#include "moeref/case.h"

/* O and the gradients of the last run that are no pairs', in the dtype of `support`. The caller
 * frees *ret, also on failure. */
moe_status moe_int_results_keep(moe_layer *layer, const moe_problem *problem,
                                const moe_support *support, moe_tensors *ret);
/* MOE_E_CONTRACT with a sentence: bits differ though the backend says deterministic, or more than
 * correct results may. */
moe_status moe_int_results_same(const moe_support *support, const moe_tensors *first,
                                const moe_tensors *last, const moe_log *log);

#endif
