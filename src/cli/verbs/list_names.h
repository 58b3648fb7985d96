/* moeref list --names KIND: names and nothing else, for scripts and completion. */
#ifndef MOE_CLI_VERBS_LIST_NAMES_H
#define MOE_CLI_VERBS_LIST_NAMES_H

#include <jansson.h>

/* A name a line; returns an exit code, CLI_USAGE after a sentence for a kind that is not there. */
int cli_list_names(const char *kind);

/* What --transport takes, "threads" first: an array of names, the caller's; NULL: no memory. */
json_t *cli_list_transports(void);

#endif
