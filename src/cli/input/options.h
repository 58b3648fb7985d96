/* The command line of a verb: a table of options. */
#ifndef MOE_CLI_INPUT_OPTIONS_H
#define MOE_CLI_INPUT_OPTIONS_H

#include "moeref/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Strings in the order in which they were given; points into argv. */
typedef struct cli_strings {
    const char **at;
    size_t count;
} cli_strings;

moe_status cli_strings_add(cli_strings *list, const char *value);
void cli_strings_destroy(cli_strings *list);

typedef enum cli_kind {
    CLI_FLAG,    /* bool *, no value */
    CLI_INT,     /* int64_t * */
    CLI_COUNT,   /* the same, from 1 on: 0 is left to mean that none was given */
    CLI_STRING,  /* const char ** */
    CLI_STRINGS, /* cli_strings *: may be repeated */
    CLI_OUTPUT   /* cli_output *: one of those that `value` names */
} cli_kind;

typedef enum cli_output { CLI_TEXT, CLI_JSON, CLI_CSV } cli_output;

/* One option of a verb: parsing and --help come from the same row. */
typedef struct cli_option {
    const char *name; /* without the dashes */
    cli_kind kind;
    void *target;
    const char *value; /* what --help calls the value; NULL for flags */
    const char *help;
} cli_option;

/* Parses argv[1..] against the rows (ended by name == NULL). Returns -1 to go on, or an exit code:
 * 0 after --help (which prints `about`, the rows and `more`), CLI_USAGE after a sentence about what
 * is wrong. Anything that is not an option goes to `rest` if it is not NULL. */
int cli_parse(int argc, char **argv, const char *about, const cli_option *options, const char *more,
              cli_strings *rest);

/* In which process backends run. */
typedef struct cli_isolation {
    int64_t timeout_s; /* 0: the library's */
    bool none;
} cli_isolation;

/* Rows that verbs share. */
/* clang-format off */
#define CLI_BACKENDS_OPTION(list, help) {"backend", CLI_STRINGS, &(list), "NAME|PATH", help}
#define CLI_THREADS_OPTION(count)                                                                 \
    {"threads", CLI_COUNT, &(count), "N", "CPU threads (default: all)"}
#define CLI_ISOLATION_OPTIONS(i)                                                                  \
    {"timeout", CLI_COUNT, &(i).timeout_s, "SECONDS",                                              \
     "most that one call of a backend may take, then it has failed (default: 60, and 1 more for "  \
     "every 10^9 FLOP of the case and every 10^8 bytes of its parameters); the search for the "    \
     "cause of a large layer's failure ends after as long (default: when it is through)"},         \
    {"no-isolation", CLI_FLAG, &(i).none, NULL,                                                    \
     "run backends in this process, for a debugger; what one does wrong may then end or falsify "  \
     "the whole run"}
#define CLI_OUTPUT_OPTION(output, formats) {"output", CLI_OUTPUT, &(output), formats, "format"}
/* clang-format on */

/* Below the options of a verb that takes cases. */
#define CLI_CASE_HELP                                                                              \
    "The keys of a case and their defaults: moeref help case. The shortest case is\n"              \
    "  \"T=64 d=48 n=32 E=4 K=2\"\n"

#endif
