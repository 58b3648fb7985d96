/* Why results are wrong, in a report's words. */
#ifndef MOE_CLI_REPORT_CAUSE_H
#define MOE_CLI_REPORT_CAUSE_H

#include "cli/report/verdict.h"

#include <stdio.h>

/* The explanation of a failure, or that there is none and what to look at next; nothing where none
 * was looked for. */
void cli_cause_text(FILE *to, const moe_check_result *r);

/* Of `failed` failures from the verdict `first` on, the cause that most of their elements stand
 * for: where all rows are an expert's tail, a dropped tail looks like zeros. */
void cli_cause_of_most(FILE *to, const cli_verdicts *verdicts, size_t first, int64_t failed);

#endif
