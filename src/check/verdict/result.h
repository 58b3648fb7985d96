/* The record that a verdict is written into. */
#ifndef MOE_CHECK_VERDICT_RESULT_H
#define MOE_CHECK_VERDICT_RESULT_H

#include "moeref/check.h"

moe_status moe_int_result_create(const moe_problem *problem, const char *backend,
                                 const char *selector, const moe_log *log, moe_check_result **ret);
/* The entry of that name, made when it is not there yet. */
moe_tensor_verdict *moe_int_result_entry(moe_check_result *r, const char *name);
moe_tensor_verdict *moe_int_result_find(moe_check_result *r, const char *name);
/* A new map of that tensor, all 0; NULL without memory: a report can do without. */
moe_error_map *moe_int_result_add_map(moe_check_result *r, const char *tensor);
/* Drops those of a tensor that is judged again. */
void moe_int_result_drop_maps(moe_check_result *r, const char *tensor);
/* Makes *r what it was when it was copied to *before, which had no maps that are gone since. */
void moe_int_result_restore(moe_check_result *r, const moe_check_result *before);
/* Marks a tensor as failed; the first reason stays. */
void moe_int_entry_fail(moe_tensor_verdict *v, const char *format, ...) MOE_PRINTF(2, 3);
/* The case's own verdict, when it is worse than the one it has; the first reason stays. */
void moe_int_result_set(moe_check_result *r, moe_verdict verdict, const char *format, ...)
    MOE_PRINTF(3, 4);
/* A slot of the backend failed in `step`: an error, unless it is the backend's own fault. */
void moe_int_result_stopped(moe_check_result *r, const moe_backend *backend, const char *step,
                            moe_status status);

#endif
