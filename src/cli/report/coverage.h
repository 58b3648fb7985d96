/* What the checked cases decide, as a table of features and types. */
#ifndef MOE_CLI_REPORT_COVERAGE_H
#define MOE_CLI_REPORT_COVERAGE_H

#include "cli/input/judging.h"

#include <jansson.h>
#include <stdio.h>

/* A table for every backend, a line for each feature. */
void cli_coverage_text(FILE *to, const cli_verdicts *verdicts);

/* {"eps": 12, "ties": 0 ...}: what one case decides, and what it carries; null: not counted. */
json_t *cli_decides_json(const moe_coverage *coverage);

/* [{"backend", "feature", "counted", "bf16", "fp16", "fp32", "fp64", "cases"}], of every backend;
 * "cases": in how many the feature decides something. */
json_t *cli_coverage_json(const cli_verdicts *verdicts);

/* Did the case pass, though it cannot show whether some feature that it carries is right? The
 * verdict is that of a pass, and so is the exit code. */
bool cli_mistrusted_in_part(const moe_check_result *r);
/* How many such there are among verdicts first .. count-1. */
int64_t cli_mistrusted_parts(const cli_verdicts *verdicts, size_t first);

#endif
