/* Fields of CSV, as RFC 4180 has them. */
#ifndef MOE_CLI_REPORT_CSV_H
#define MOE_CLI_REPORT_CSV_H

#include <stdio.h>

/* In quotes, which are doubled where the text has some. */
void cli_csv_quoted(FILE *to, const char *text);

/* In quotes only where the text needs them. */
void cli_csv_text(FILE *to, const char *text);

#endif
