/* The edge suite: what is checked when nothing else is asked for. Cases are lines of the case
 * grammar under stable names; the small ones also have the oracle's outputs stored, one
 * NAME.safetensors each (golden/edge). Inputs are not stored: the case line draws them again.
 *
 * Thread-safety: everything here may be called from any thread. */
#ifndef MOEREF_SUITE_H
#define MOEREF_SUITE_H

#include "moeref/case.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The lines, in a fixed order. Static storage. */
MOE_API const char *const *moe_suite(size_t *count);

/* Name of line i: [a-z0-9_]+, unique, also the name of its golden file. */
MOE_API const char *moe_suite_name(size_t i);

/* Does golden/edge hold outputs for line i? */
MOE_API bool moe_suite_is_stored(size_t i);

/* Index of a name, or -1. */
MOE_API long moe_suite_find(const char *name);

/* Writes every stored case of the suite into `dir`. */
MOE_API moe_status moe_suite_write(const char *dir, const moe_log *log, size_t *ret_files);

/* Runs the oracle again on every stored case and compares. MOE_E_INVALID: a file is missing, is of
 * another case, or differs; each with a sentence. */
MOE_API moe_status moe_suite_verify(const char *dir, const moe_log *log, size_t *ret_files);

/* Takes what `dir` stores for the problem's case line as its golden outputs; MOE_OK and nothing
 * when it stores nothing for it. */
MOE_API moe_status moe_suite_attach(const char *dir, const moe_log *log, moe_problem *problem);

#ifdef __cplusplus
}
#endif
#endif
