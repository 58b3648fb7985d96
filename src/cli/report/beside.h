/* What a verdict says beside its tensors: how the results were read, batch invariance, what crossed
 * between ranks, bits. */
#ifndef MOE_CLI_REPORT_BESIDE_H
#define MOE_CLI_REPORT_BESIDE_H

#include "moeref/check.h"

#include <stdbool.h>
#include <stdio.h>

/* A line for each, of two blanks and its name. Of a case that did not fail, and without `full`,
 * only what a reader would not expect. */
void cli_beside_text(FILE *to, const moe_check_result *r, bool full);

#endif
