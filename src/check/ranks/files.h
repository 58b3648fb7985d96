/* Results that ranks wrote, each into a file of its own. */
#ifndef MOE_CHECK_RANKS_FILES_H
#define MOE_CHECK_RANKS_FILES_H

#include "moeref/check.h"
#include "moeref/ep.h"
#include "moeref/safetensors.h"

#include <limits.h>
#include <stdbool.h>

/* What each of them has. */
typedef struct moe_int_file_ranks {
    int32_t ranks;
    int64_t tokens[MOE_EP_MAX_RANKS], experts[MOE_EP_MAX_RANKS];
} moe_int_file_ranks;

typedef struct moe_int_files {
    const char *pattern; /* with a %d for the rank */
    const moe_problem *problem;
    moe_safetensors *file[MOE_EP_MAX_RANKS];
    int32_t count;
    moe_int_file_ranks who;
    int64_t due[MOE_EP_MAX_RANKS]; /* tokens of a rank: the case's, else who's */
    bool stated;                   /* the case says so */
} moe_int_files;

/* files_said.c: a rank's file, and its part of a tensor; one without rows may leave it out, then
 * data is NULL. */
void moe_int_files_path(const moe_int_files *f, int32_t rank, char ret[PATH_MAX]);
moe_tensor moe_int_files_part(const moe_int_files *f, int32_t rank, const char *name);
/* "is [40, 63] of fp32", "is not there". */
void moe_int_files_describe(const moe_int_files *f, int32_t rank, const char *name, char *ret,
                            size_t size);
/* MOE_E_INVALID, in words: the part of `rank` is of another type or width than that of `other`. */
moe_status moe_int_files_refuse(const moe_int_files *f, const char *name, int32_t rank,
                                int32_t other, const moe_log *log);
/* MOE_E_INVALID, in words, where neither slots' ids nor a tensor [slots] beside them has a row for
 * each token. */
moe_status moe_int_files_check_slots(const moe_int_files *f, const char *name, const moe_log *log);
/* What the verdict on the tensors put together does not know: whose rows are missing, too many or
 * another rank's, whose gradient of what all have is another than the others', who has another's
 * bits. */
void moe_int_files_say(const moe_int_files *f, moe_check_result *result);

/* files_cause.c: where results of `all`, the files put together, are wrong, looks for what is wrong
 * between ranks, and says in `result` which tokens and experts were whose. */
void moe_int_files_cause(const moe_safetensors *all, const char *name,
                         const moe_int_file_ranks *who, const moe_problem *problem,
                         const moe_check_params *params, moe_check_result *result);

/* files_parts.c: does a gradient lie in parts, or on several ranks, as the case says? Then those of
 * all ranks are put together: parts side by side, replicas added, unless they have the same bits
 * and so are sums already. MOE_E_INVALID: one has another shape. */
bool moe_int_files_in_parts(const moe_problem *problem, moe_tensor_id id);
moe_status moe_int_files_join(const moe_int_files *f, moe_tensor_id id, const moe_log *log,
                              moe_tensor *ret);
/* files_pairs.c: numbers of pairs, each rank's in its own plan's order, in that of the plan of all
 * tokens. MOE_E_INVALID: there are more or fewer than tokens have, or of another type. */
moe_status moe_int_files_join_pairs(const moe_int_files *f, const char *name, const moe_log *log,
                                    moe_tensor *ret);

#endif
