/* Files with a case on each line. */
#ifndef MOE_CLI_INPUT_LINES_H
#define MOE_CLI_INPUT_LINES_H

#include "moeref/status.h"

#include <stdio.h>

/* Bytes that a line may be long: a route by counts of 10^5 experts has a tenth of that. */
#define CLI_LINE_MAX ((size_t)4 << 20)

typedef struct cli_lines {
    const char *path; /* for messages; opened as "-": "standard input" */
    FILE *in;
    long number; /* of the line read last */
} cli_lines;

typedef struct cli_line {
    char *text;    /* without its end; NULL behind the last line. Freed with free() */
    size_t length; /* more than strlen(text) where a NUL byte stands in it */
    long number;
} cli_line;

moe_status cli_lines_open(const char *path, cli_lines *ret);
void cli_lines_close(cli_lines *lines);

/* The next line that is not empty and does not start with '#'. MOE_E_IO. */
moe_status cli_lines_next(cli_lines *lines, cli_line *ret);

/* MOE_E_INVALID: a NUL byte stands in it, and what lies behind would be lost. */
moe_status cli_line_check(const cli_line *line, const moe_log *log);

#endif
