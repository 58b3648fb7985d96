/* How verdicts read: for a person who has to act on them, and as JSON. */
#ifndef MOE_CLI_REPORT_VERDICT_H
#define MOE_CLI_REPORT_VERDICT_H

#include "cli/input/judging.h"

#include <jansson.h>
#include <stdio.h>

/* A line for a case that passed; every tensor, the first wrong stage and the reproducing command
 * for one that did not, or with `full`. */
void cli_verdict_text(FILE *to, const moe_check_result *r, bool full);

/* "137 passed, 0 failed, 2 ambiguous, 0 mistrusted, 31 skipped" over verdicts first .. count-1,
 * and how many of the passed are MISTRUSTED for a feature. */
void cli_verdict_summary(FILE *to, const cli_verdicts *verdicts, size_t first);

/* {"moeref": 2, "cases": [...], "summary": {...}} */
json_t *cli_verdicts_json(const cli_verdicts *verdicts);

/* The end of a command that printed its verdicts as it went: their summary, or all as JSON. */
void cli_verdicts_print(const cli_verdicts *verdicts, cli_output output);

#endif
