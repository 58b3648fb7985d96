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
