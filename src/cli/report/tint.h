/* Colours, on a terminal that wants them: not where NO_COLOR is set (no-color.org), nor in files.
 */
#ifndef MOE_CLI_REPORT_TINT_H
#define MOE_CLI_REPORT_TINT_H

#include "moeref/check.h"

#include <stdio.h>

/* A verdict's word in its colour, padded to `width`. */
void cli_tint_verdict(FILE *to, moe_verdict verdict, int width);
/* A word that is good news or bad. */
void cli_tint_word(FILE *to, bool good, const char *word);

#endif
