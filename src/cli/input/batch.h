/* The lines of a file on all cores. */
#ifndef MOE_CLI_INPUT_BATCH_H
#define MOE_CLI_INPUT_BATCH_H

#include "moeref/status.h"

#include <stdio.h>

/* What becomes of a line; either writes to `to`. */
typedef struct cli_batch_job {
    const void *user;
    moe_status (*make)(const void *user, const char *line, const moe_log *log, FILE *to);
    /* A line for which make() failed; `why` is its sentence. */
    void (*fail)(const void *user, const char *line, const char *why, FILE *to);
} cli_batch_job;

/* Makes every line of a file ("-": standard input) that is not empty and does not start with '#',
 * from several threads; what is written is printed in the order of the lines. A line that fails is
 * named and counted, and does not keep the others from being made; lacking memory does.
 * MOE_E_NOTFOUND: no such line. */
moe_status cli_batch(const char *path, const cli_batch_job *job, long *ret_failed);

#endif
