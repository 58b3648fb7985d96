/* One run of the whole layer in one arithmetic; reference.c chooses which. */
#ifndef MOE_REFERENCE_RUN_H
#define MOE_REFERENCE_RUN_H

#include "moeref/reference.h"

/* Threads that `wanted` (0: all) stands for. */
int moe_int_thread_count(int32_t wanted);

/* Fills res->plan and res->out; the caller frees them on any status.
 * `threads` is at least 1. */
moe_status moe_int_run_f64(const moe_layer_desc *desc, const moe_tensors *in,
                           const moe_reference_params *params, int threads, const moe_log *log,
                           moe_reference_result *res);
moe_status moe_int_run_f32(const moe_layer_desc *desc, const moe_tensors *in,
                           const moe_reference_params *params, int threads, const moe_log *log,
                           moe_reference_result *res);

#endif
