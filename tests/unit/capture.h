/* A log that remembers the last message, for tests of what a sentence names. */
#ifndef MOE_TESTS_CAPTURE_H
#define MOE_TESTS_CAPTURE_H

#include "moeref/status.h"

#include <stdio.h>

typedef struct capture {
    char text[1024];
    int messages;
} capture;

static inline void capture_message(void *user, moe_log_level level, const char *message) {
    capture *seen = user;
    (void)level;
    seen->messages++;
    snprintf(seen->text, sizeof(seen->text), "%s", message);
}

static inline moe_log capture_log(capture *seen) {
    *seen = (capture){.text = ""};
    return (moe_log){capture_message, seen};
}

#endif
