/* moeref help: of the program, of a verb, of the grammar of cases; and the same texts as manual
 * pages and as completion of shells. */
#ifndef MOE_CLI_HELP_H
#define MOE_CLI_HELP_H

#include <stdio.h>

typedef struct cli_verb {
    const char *name, *brief;
    int (*run)(int argc, char **argv);
} cli_verb;

/* NULL: there is none of that name. */
const cli_verb *cli_verb_find(const char *name);

/* What ends a sentence about a verb that is not there: the one that was meant, or where all are. */
const char *cli_verb_hint(const char *word);

void cli_help_overview(FILE *to);

/* argv[0] is "help"; returns an exit code. */
int cli_help(int argc, char **argv);

#endif
