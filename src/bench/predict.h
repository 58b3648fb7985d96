/* Internal to src/bench: filling predicted times into a result whose measured ones are there. */
#ifndef MOE_BENCH_PREDICT_H
#define MOE_BENCH_PREDICT_H

#include "moeref/bench.h"

/* Work of every pass and kernel, and its time on the result's roofline if it has one. `size`: bytes
 * of an element. plan may be NULL: T*K pairs over all experts. */
void moe_int_predict_by_roofline(const moe_problem *p, const moe_plan *plan, size_t size,
                                 moe_bench_result *r);

/* Times and floors by the GPU cost model, instead. */
moe_status moe_int_predict_by_model(const moe_problem *p, const moe_plan *plan,
                                    const moe_bench_params *params, const moe_log *log,
                                    moe_bench_result *r);

#endif
