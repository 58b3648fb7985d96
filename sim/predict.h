/* Internal: a prediction together with the GEMMs that it was made of, for timelines and stages. */
#ifndef MOE_SIM_PREDICT_H
#define MOE_SIM_PREDICT_H

#include "sim/kernels/list.h"

/* Builds the kernels of a layer and adds them up; the list keeps the GEMMs. w->counts must be set.
 * The caller frees the list with moe_int_list_destroy, and *ret with moe_prediction_destroy. */
moe_status moe_int_list_build(const moe_gpu *gpu, const char *method, const moe_workload *w,
                              const moe_log *log, moe_int_list *l, moe_prediction **ret);

/* total.c: adds up the list's kernels, which the prediction takes over; its GEMMs stay with the
 * caller. MOE_E_NOMEM. */
moe_status moe_int_list_total(const moe_gpu *gpu, moe_int_system system, moe_int_list *l,
                              const moe_workload *w, const moe_log *log, moe_prediction **ret);

/* Sets the bytes of values in a list of products that a vendor library runs. */
moe_status moe_int_list_storage(const moe_gpu *gpu, int32_t storage, const moe_log *log,
                                moe_int_list *l);

#endif
