/* Words that came from outside (names of files, reasons of plug-ins), in JSON. */
#ifndef MOE_CLI_REPORT_TEXT_H
#define MOE_CLI_REPORT_TEXT_H

#include <jansson.h>

/* A string of whatever the text holds: JSON has no place for bytes that are no UTF-8, and one of
 * them must not take the whole report along. */
json_t *cli_json_text(const char *text);

#endif
