/* What the checked cases decide, as a table of features and types. */
#ifndef MOE_CLI_REPORT_COVERAGE_H
#define MOE_CLI_REPORT_COVERAGE_H

#include "cli/input/judging.h"

#include <jansson.h>
#include <stdio.h>

/* A table for every backend, a line for each feature. */
void cli_coverage_text(FILE *to, const cli_verdicts *verdicts);

/* [{"backend", "feature", "counted", "bf16", "fp16", "fp32", "fp64", "cases"}], of every backend;
 * "cases": in how many the feature decides something. */
json_t *cli_coverage_json(const cli_verdicts *verdicts);

#endif
