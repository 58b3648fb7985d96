/* Results that ranks wrote, each into a file of its own. */
#ifndef MOE_CHECK_RANKS_FILES_H
#define MOE_CHECK_RANKS_FILES_H

#include "moeref/check.h"
#include "moeref/ep.h"
#include "moeref/safetensors.h"

#include <stdbool.h>

/* What each of them has. */
typedef struct moe_int_file_ranks {
    int32_t ranks;
    int64_t tokens[MOE_EP_MAX_RANKS], experts[MOE_EP_MAX_RANKS];
} moe_int_file_ranks;

/* files_cause.c: where results of `all`, the files put together, are wrong, looks for what is wrong
 * between ranks, and says in `result` which tokens and experts were whose. */
void moe_int_files_cause(const moe_safetensors *all, const char *name,
                         const moe_int_file_ranks *who, const moe_problem *problem,
                         const moe_check_params *params, moe_check_result *result);

/* files_parts.c: does a gradient lie in parts, or on several ranks, as the case says? Then those of
 * all ranks, parts[ranks], are put together: parts side by side, replicas added, unless
 * they have the same bits and so are sums already. MOE_E_INVALID: one has another shape. */
bool moe_int_files_in_parts(const moe_problem *problem, moe_tensor_id id);
moe_status moe_int_files_join(const moe_tensor *parts, moe_tensor_id id, const moe_problem *problem,
                              const moe_log *log, moe_tensor *ret);
/* files_pairs.c: numbers of pairs, parts[ranks] of each rank's in its own plan's order, in that of
 * the plan of all tokens; ids[ranks]: their "topk_index", data NULL: absent. MOE_E_INVALID: there
 * are more or fewer than tokens have. */
moe_status moe_int_files_join_pairs(const moe_tensor *parts, const moe_tensor *ids,
                                    const char *name, const moe_int_file_ranks *who,
                                    const moe_problem *problem, const moe_log *log,
                                    moe_tensor *ret);

#endif
