/* The options that lead to a verdict again, beside the case's own. */
#ifndef MOE_CHECK_VERDICT_SELECTOR_H
#define MOE_CHECK_VERDICT_SELECTOR_H

#include "moeref/check.h"

/* "--backend NAME ..." as a shell reads it: `option` and its value `subject`, what --arithmetic
 * said (negative: nothing), and what else of `params` decides. The caller frees it; NULL: no
 * memory. */
char *moe_int_selector(const char *option, const char *subject, int32_t arithmetic,
                       const moe_check_params *params);

/* The empty record of a check of `name`, whose last line are those options. MOE_E_NOMEM. */
moe_status moe_int_result_named(const moe_problem *problem, const char *name, const char *option,
                                const char *subject, int32_t arithmetic,
                                const moe_check_params *params, const moe_log *log,
                                moe_check_result **ret);

#endif
