/* What a verb's table of options says: as help, as a manual page, as completion of shells. */
#ifndef MOE_CLI_INPUT_MANUAL_H
#define MOE_CLI_INPUT_MANUAL_H

#include "cli/input/options.h"

#include <stdio.h>

/* No line of help is longer. */
#define CLI_HELP_WIDTH 100

typedef enum cli_manual_form {
    CLI_MANUAL_HELP, /* --help */
    CLI_MANUAL_PAGE, /* troff, man(7) */
    CLI_MANUAL_BASH, /* the verb's branch of a script that cli/help.c begins and ends */
    CLI_MANUAL_ZSH,
    CLI_MANUAL_FISH
} cli_manual_form;

/* How --help is answered from now on; `brief` is the verb's line in the list of verbs. */
void cli_manual_set(cli_manual_form form, const char *brief);

/* Prints a verb in that form. `about` is prose, `more` a text of lines, either ended by \n. */
void cli_manual_print(const char *verb, const char *about, const cli_option *options,
                      const char *more);

/* Prose from column `indent` on, which the cursor has reached; ends the line. */
void cli_help_prose(FILE *to, const char *text, int indent);
/* Lines as they are; one that is too long goes on below its second column. */
void cli_help_lines(FILE *to, const char *text);
/* A text in one line: what parts its words becomes a blank. Longer than `size` - 1 it is cut. */
#define CLI_FLOW_MAX 1024
void cli_flow(const char *text, char *ret, size_t size);
/* A text in troff, with line ends as they are. */
void cli_troff(FILE *to, const char *text);

#endif
