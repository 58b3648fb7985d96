/* JSON as text, member after member, for reports of many thousand lines: no tree is built. */
#ifndef MOE_CLI_REPORT_JSON_H
#define MOE_CLI_REPORT_JSON_H

#include <stdbool.h>
#include <stdio.h>

/* The first member of every report, "moeref": a reader's promise (moeref.schema.json). It grows
 * when a member goes or means something else; new members leave it alone. */
#define CLI_JSON_VERSION 2

typedef struct cli_json {
    FILE *to;   /* of one thread; the caller looks at ferror() when it is done */
    bool comma; /* a value stands before this place */
} cli_json;

/* `key` is NULL inside an array and for the outermost value. */
void cli_json_open(cli_json *t, const char *key, char bracket); /* '{' or '[' */
void cli_json_close(cli_json *t, char bracket);

/* Any bytes: quotes and control characters are escaped, what is not UTF-8 becomes U+FFFD. */
void cli_json_string(cli_json *t, const char *key, const char *value);

void cli_json_null(cli_json *t, const char *key);

/* All digits that a double is good for, 15, always with a point or an exponent; null for what JSON
 * has no number for. */
void cli_json_real(cli_json *t, const char *key, double value);
void cli_json_int(cli_json *t, const char *key, long long value);

/* Ends the outermost value's line; the next one may follow. */
void cli_json_line(cli_json *t);

#endif
