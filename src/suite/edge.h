/* golden/edge: the oracle's outputs of the suite's small cases, one NAME.safetensors each. Inputs
 * are not stored: the case line in the metadata draws them again. */
#ifndef MOE_CHECK_EDGE_H
#define MOE_CHECK_EDGE_H

#include "moeref/case.h"

/* Writes every stored case of the suite into `dir`. */
MOE_API moe_status moe_int_edge_write(const char *dir, const moe_log *log, size_t *ret_files);

/* Runs the oracle again on every stored case and compares. MOE_E_INVALID: a file is missing, is of
 * another case, or differs; each with a sentence. */
MOE_API moe_status moe_int_edge_verify(const char *dir, const moe_log *log, size_t *ret_files);

/* Takes what `dir` stores for the problem's case line as its golden outputs; MOE_OK and nothing
 * when it stores nothing for it. */
MOE_API moe_status moe_int_edge_attach(const char *dir, const moe_log *log, moe_problem *problem);

#endif
