/* Results that ranks wrote, each into a file of its own. */
#ifndef MOE_CHECK_RANKS_FILES_H
#define MOE_CHECK_RANKS_FILES_H

#include "moeref/check.h"
#include "moeref/ep.h"
#include "moeref/safetensors.h"

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

#endif
