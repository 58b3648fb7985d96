/* Strings of any bytes for jansson, which refuses a whole report for one that is not UTF-8. */
#ifndef MOE_CLI_REPORT_JSON_TEXT_H
#define MOE_CLI_REPORT_JSON_TEXT_H

#include <jansson.h>

/* What is not UTF-8 (a file's name may be so, or a text that was cut) becomes U+FFFD. */
json_t *cli_json_text(const char *text);

#endif
