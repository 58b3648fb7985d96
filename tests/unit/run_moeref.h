/* Runs the program as its users do and keeps what it says. */
#ifndef MOE_TESTS_RUN_MOEREF_H
#define MOE_TESTS_RUN_MOEREF_H

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* Freed with free(). */
typedef struct outcome {
    int code;    /* the exit code, or 128 + signal */
    char text[]; /* stdout and stderr together */
} outcome;

/* Runs `moeref ARGS` through the shell. */
__attribute__((format(printf, 1, 2))) static inline outcome *moeref(const char *format, ...) {
    char line[4000];
    va_list list;
    va_start(list, format);
    int used = snprintf(line, sizeof line, "%s/src/cli/moeref ", getenv("MOEREF_BUILD_ROOT"));
    used += vsnprintf(line + used, sizeof line - (size_t)used, format, list);
    va_end(list);
    cr_assert_lt(used, (int)sizeof line - 6);
    strcat(line, " 2>&1");
    FILE *pipe = popen(line, "r");
    cr_assert_not_null(pipe);
    outcome *o = NULL;
    for (size_t size = 1 << 16, length = 0;; size *= 2) {
        o = realloc(o, sizeof *o + size);
        cr_assert_not_null(o);
        length += fread(o->text + length, 1, size - length - 1, pipe);
        o->text[length] = '\0';
        if (length < size - 1)
            break;
    }
    const int status = pclose(pipe);
    o->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return o;
}

/* Expects an exit code and a piece of the text. */
static inline void expect(int code, const char *piece, const char *args) {
    outcome *o = moeref("%s", args);
    cr_expect_eq(o->code, code, "moeref %s: exit %d, want %d\n%s", args, o->code, code, o->text);
    cr_expect_not_null(strstr(o->text, piece), "moeref %s: no '%s' in\n%s", args, piece, o->text);
    free(o);
}

#endif
