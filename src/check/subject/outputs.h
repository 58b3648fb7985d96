/* Results that another program wrote into a file. */
#ifndef MOE_CHECK_SUBJECT_OUTPUTS_H
#define MOE_CHECK_SUBJECT_OUTPUTS_H

#include "check/subject/ids.h"
#include "check/subject/subject.h"
#include "moeref/safetensors.h"

/* What the file holds: views into it, and what had to be put into plan order. */
typedef struct moe_int_outputs {
    const moe_safetensors *file; /* not owned */
    moe_tensors got;             /* views, or owned where `owned` */
    bool owned[MOE_T_COUNT];
    moe_plan *plan; /* from topk_index; NULL: not told */
    moe_int_bad_ids bad_ids;
    bool lost[MOE_T_COUNT]; /* in the file, but by slots that cannot be read */
    char *why[MOE_T_COUNT]; /* owned: in the file, and of another shape or of integers */
    moe_tensor index;       /* [T][K] int64, owned: the slots that values come by, topk_index or
                               those of the problem's plan; data NULL: none do */
    size_t found;
} moe_int_outputs;

/* *ret is to be freed, also on failure, before `file`. `path` appears in messages. */
moe_status moe_int_outputs_read(const moe_safetensors *file, const char *path,
                                const moe_problem *problem, const moe_log *log,
                                moe_int_outputs *ret);
void moe_int_outputs_destroy(moe_int_outputs *outputs);
/* The first floating tensor's type, O before all others, is what the program computed in; where
 * all are of a kind that any kernel keeps in fp32, X's type is. */
moe_dtype moe_int_outputs_arithmetic(const moe_int_outputs *outputs, const moe_problem *problem);
/* "O is stored as float32": why that is its arithmetic. */
void moe_int_outputs_reason(const moe_int_outputs *outputs, const moe_problem *problem, char *ret,
                            size_t size);
/* Fails in `result` what no comparison can be made of: before anything is judged. */
void moe_int_outputs_report(const moe_int_outputs *outputs, moe_check_result *result);
/* Notes in `result` what the case makes and the file lacks. */
void moe_int_outputs_list_absent(const moe_int_outputs *outputs, const moe_problem *problem,
                                 moe_check_result *result);

#endif
