/* Routing plans in files. */
#ifndef MOE_LAYER_STORED_PLAN_H
#define MOE_LAYER_STORED_PLAN_H

#include "moeref/plan.h"
#include "moeref/safetensors.h"

/* A file's tensors under a common prefix, "" where they have none. */
typedef struct moe_int_prefixed {
    const moe_safetensors *file;
    const char *path, *prefix;
} moe_int_prefixed;

/* The tensor PREFIX NAME; as moe_safetensors_get. */
moe_status moe_int_prefixed_get(const moe_int_prefixed *stored, const char *name, moe_tensor *ret);

/* The first name of a file that neither a layer's tensors have nor what an exported case holds
 * beside them, NULL: none; *ret_more is "", or says how many there are. */
const char *moe_int_stored_unknown(const moe_safetensors *file, char *ret_more, size_t size);

/* Is a plan there, in either form? */
bool moe_int_stored_has_plan(const moe_int_prefixed *stored);

/* The stored plan of `tokens` tokens over `experts` bins, in the first of two forms that is there:
 *
 *     plan_offsets [experts + 1], plan_token [pairs] integers, topk_weight [pairs], rows by expert
 *     topk_index [T][K] integers, topk_weight [T][K]; -1 is an empty slot
 *
 * MOE_E_NOTFOUND without a plan; MOE_E_FORMAT and MOE_E_INVALID say what is wrong with it. */
moe_status moe_int_stored_plan(const moe_int_prefixed *stored, int64_t tokens, int64_t experts,
                               const moe_log *log, moe_plan **ret);

/* The second form's ids as int64, in the order of the file, where it is there beside `plan` or made
 * it; else *ret stays as it is. MOE_E_FORMAT: they are of other pairs. */
moe_status moe_int_stored_slots(const moe_int_prefixed *stored, const moe_plan *plan,
                                const moe_log *log, moe_tensor *ret);

/* The first form of `plan`, at most 3 tensors under names that begin with `prefix`: appends to
 * list and returns the new count. `names` is room for them, MOE_INT_STORED_NAME each. */
enum { MOE_INT_STORED_NAME = 40 };
size_t moe_int_stored_list(const moe_plan *plan, const char *prefix,
                           char (*names)[MOE_INT_STORED_NAME], moe_named_tensor *list,
                           size_t count);

#endif
