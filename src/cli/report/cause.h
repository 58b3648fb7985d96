/* Why results are wrong, in a report's words. */
#ifndef MOE_CLI_REPORT_CAUSE_H
#define MOE_CLI_REPORT_CAUSE_H

#include "cli/report/verdict.h"

#include <stdio.h>

/* The explanation of a failure, or that there is none and what to look at next; nothing where none
 * was looked for. */
void cli_cause_text(FILE *to, const moe_check_result *r);

/* What to look at next where no hypothesis explains a failure, in sentences without a stop. Results
 * that are wrong everywhere, by more than zeros would be, are mostly right ones of other inputs. */
enum { CLI_ADVICE_MOST = 2 };
size_t cli_advice(const moe_check_result *r, const char *ret[CLI_ADVICE_MOST]);

/* Of several failures, the cause that most of their elements stand for: where all rows are an
 * expert's tail, a dropped tail looks like zeros. */
typedef struct cli_cause {
    const char *kind; /* "": there are none, or one, or none is explained */
    int64_t cases, failed;
} cli_cause;

/* Over verdicts first .. count-1. */
cli_cause cli_cause_of_most(const cli_verdicts *verdicts, size_t first);
/* "likely cause: ..." without an end of line; nothing where there is none. */
void cli_cause_of_most_text(FILE *to, const cli_cause *most);

#endif
