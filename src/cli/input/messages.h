/* What a verb says while it runs, and the exit code that it ends with. */
#ifndef MOE_CLI_INPUT_MESSAGES_H
#define MOE_CLI_INPUT_MESSAGES_H

#include "moeref/status.h"

#include <stdbool.h>

/* Exit codes, as documented in --help. */
enum {
    CLI_PASSED = 0,
    CLI_FAILED = 1,  /* something was judged wrong */
    CLI_USAGE = 2,   /* the command line is wrong, or selects nothing */
    CLI_NOT_RUN = 3, /* could not run: no memory, no file, no device */
};

/* Errors and warnings of the library and of the verbs go to stderr as "moeref: ...", a warning once
 * in a run. */
const moe_log *cli_log(void);
/* Where this thread's messages go instead, for those who have no stderr of their own; NULL: back to
 * stderr. */
void cli_log_to(const moe_log *log);
int cli_usage(const char *format, ...) MOE_PRINTF(1, 2);
/* The exit code for a status: usage for what the user named wrongly, not-run for the rest. */
int cli_exit_code(moe_status status);

/* Keeps the last error's sentence beside passing messages on to `log`, where there is one. */
typedef struct cli_heard {
    const moe_log *log;
    char why[512];
} cli_heard;
moe_log cli_hear(cli_heard *heard);

/* A line on stderr, wherever that goes, or to cli_log_to's log: of what takes long. */
void cli_note(const char *format, ...) MOE_PRINTF(1, 2);
/* Progress on a terminal's stderr, overwritten in place and cut at its width. Elsewhere the last of
 * it becomes a line of its own each time that $MOEREF_PROGRESS_SECONDS (30; 0: never) are over
 * before cli_progress_clear says that it has come to its end. */
void cli_progress(const char *format, ...) MOE_PRINTF(1, 2);
void cli_progress_clear(void);
/* Makes room for what is printed while it goes on. */
void cli_progress_pause(void);
/* Off where what a program reads is all that is wanted; on otherwise. */
void cli_set_progress(bool shown);
bool cli_progress_is_shown(void);

#endif
