#include "check/verdict/selector.h"
#include "check/verdict/result.h"
#include "core/shell.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Each after a space. */
static void print_options(const moe_check_params *params, int32_t arithmetic, char *ret,
                          size_t size) {
    char repeats[32] = "";
    if (params->repeats > 0)
        snprintf(repeats, sizeof repeats, " --repeat %d", (int)params->repeats);
    snprintf(ret, size, "%s%s%s%s%s%s%s%s%s%s%s", arithmetic >= 0 ? " --arithmetic " : "",
             arithmetic >= 0 ? moe_dtype_name((moe_dtype)arithmetic) : "",
             params->recipe ? " --recipe " : "", params->recipe ? params->recipe : "", repeats,
             params->bits ? " --bits " : "", params->bits ? params->bits : "",
             params->scout ? " --scout " : "", params->scout ? params->scout : "",
             params->sample_above_flops < 0 ? " --exhaustive" : "",
             params->invariance ? " --invariant" : "");
}

char *moe_int_selector(const char *option, const char *subject, int32_t arithmetic,
                       const moe_check_params *params) {
    char options[288], *out = NULL, *word = moe_int_shell_word(subject);
    print_options(params, arithmetic, options, sizeof options);
    if (word) {
        size_t size = strlen(option) + strlen(word) + strlen(options) + 2;
        out = malloc(size);
        if (out)
            snprintf(out, size, "%s %s%s", option, word, options);
    }
    free(word);
    return out;
}

moe_status moe_int_result_named(const moe_problem *problem, const char *name, const char *option,
                                const char *subject, int32_t arithmetic,
                                const moe_check_params *params, const moe_log *log,
                                moe_check_result **ret) {
    char *selector = moe_int_selector(option, subject, arithmetic, params);
    moe_status status = selector ? moe_int_result_create(problem, name, selector, log, ret)
                                 : moe_fail(log, MOE_E_NOMEM, "no memory for a check's result");
    free(selector);
    return status;
}
