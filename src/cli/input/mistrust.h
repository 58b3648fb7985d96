/* Cases that a self-test found unable to show faults: `selftest --mistrust FILE` writes the list,
 * `check --mistrust FILE` reads it. One line a case and arithmetic, with tabs between
 *
 *     bf16  T=96 d=64 n=64 E=8 K=4 act=swiglu_clamp limit=7  clamp_missing clamp_up_missing
 *
 * A fault is listed where it changes results and the check passes all the same. */
#ifndef MOE_CLI_INPUT_MISTRUST_H
#define MOE_CLI_INPUT_MISTRUST_H

#include "moeref/check.h"

/* A pass in this arithmetic on a listed case becomes MISTRUSTED, with the faults that the case
 * cannot show. MOE_E_NOTFOUND, MOE_E_FORMAT with a sentence. */
moe_status cli_mistrust_apply(const char *path, moe_dtype arithmetic, moe_check_result *result);

#endif
