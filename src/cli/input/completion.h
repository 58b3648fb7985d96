/* A verb's options for the completion of shells: its branch of a script that cli/help.c begins and
 * ends. Words that are known here are written into it; names that depend on what is installed are
 * asked of `moeref list --names KIND` when somebody completes. */
#ifndef MOE_CLI_INPUT_COMPLETION_H
#define MOE_CLI_INPUT_COMPLETION_H

#include "cli/input/options.h"

void cli_complete_bash(const char *verb, const cli_option *options);
/* The program's name as it was typed is in $program. */
void cli_complete_zsh(const char *verb, const cli_option *options);
void cli_complete_fish(const char *verb, const cli_option *options);

#endif
