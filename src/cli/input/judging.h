/* Running the checker over a selection, shared by `check` and `validate`. */
#ifndef MOE_CLI_INPUT_JUDGING_H
#define MOE_CLI_INPUT_JUDGING_H

#include "cli/input/select.h"
#include "moeref/check.h"

/* Every verdict of a command, in order, with their tally. */
typedef struct cli_verdicts {
    moe_check_result **at;
    size_t count;
    int64_t tally[MOE_VERDICT_ERROR + 1]; /* by moe_verdict */
    bool coverage;                        /* report what the cases decide, too */
} cli_verdicts;

/* A case of the user's own words or inputs, who is told what it says nothing about. */
bool cli_is_own(const cli_item *item);

/* What is told of a case while it is judged; a line is written anew where it says more. */
typedef struct cli_telling {
    const char *spec, *name;
    size_t number, of;
    const char *phase;
    int percent;
} cli_telling;
/* The fn of a moe_progress whose user is a cli_telling. */
void cli_tell(void *user, const char *phase, int64_t done, int64_t of);

/* Called after each verdict, for printing as it goes; may be NULL. */
typedef void (*cli_verdict_fn)(void *user, const moe_check_result *result);

/* Judges every item on one backend. Returns the worst exit code; a backend on which every case was
 * skipped has not been checked, which is CLI_USAGE. */
int cli_judge_backend(const cli_backends *backends, const char *spec,
                      const cli_selection *selection, const cli_items *items,
                      const moe_check_params *params, cli_verdict_fn each, void *user,
                      cli_verdicts *verdicts);

moe_status cli_verdicts_add(cli_verdicts *verdicts, moe_check_result *result);
void cli_verdicts_destroy(cli_verdicts *verdicts);
/* The exit code that verdicts from `first` on stand for. */
int cli_verdicts_exit_code(const cli_verdicts *verdicts, size_t first);

#endif
