/* The part of moeref predict that nudges a GPU's parameters. */
#ifndef MOE_CLI_VERBS_PREDICT_SLOPES_H
#define MOE_CLI_VERBS_PREDICT_SLOPES_H

#include "cli/input/question.h"

#include <stdio.h>

/* d ln(time) / d ln(parameter), for every parameter that moves the time and not in steps.
 * base_us: the time with none nudged. */
moe_status cli_slopes_print(FILE *to, const moe_gpu *gpu, const cli_question *s, const char *method,
                            const moe_workload *state, const moe_log *say, double base_us);

/* Adds to a help text what they leave out. */
void cli_slopes_help(char *buf, size_t size);

#endif
