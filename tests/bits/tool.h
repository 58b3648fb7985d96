/* What small programs say that end at the first error. */
#ifndef MOE_TESTS_BITS_TOOL_H
#define MOE_TESTS_BITS_TOOL_H

#include "moeref/status.h"

#include <stdio.h>
#include <stdlib.h>

static inline void say_errors(void *user, moe_log_level level, const char *message) {
    (void)user;
    if (level == MOE_LOG_ERROR)
        fprintf(stderr, "%s\n", message);
}

static const moe_log log_to_stderr = {say_errors, NULL};

static inline void must(moe_status status, const char *what) {
    if (status == MOE_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, moe_status_str(status));
    exit(3);
}

#endif
