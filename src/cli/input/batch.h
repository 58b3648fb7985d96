/* The lines of a file on all cores. */
#ifndef MOE_CLI_INPUT_BATCH_H
#define MOE_CLI_INPUT_BATCH_H

#include "moeref/status.h"

#include <stdio.h>

/* Calls make() for every line of a file ("-": standard input) that is not empty and does not start
 * with '#', from several threads; what it writes to `to` is printed in the order of the lines. A
 * line that fails ends the run and is named. MOE_E_NOTFOUND: no such line. */
typedef moe_status (*cli_line_fn)(const void *user, const char *line, const moe_log *log, FILE *to);
moe_status cli_batch(const char *path, cli_line_fn make, const void *user);

#endif
