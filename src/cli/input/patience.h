/* Who waits at a terminal, or in a script, for the cause of a failure. */
#ifndef MOE_CLI_INPUT_PATIENCE_H
#define MOE_CLI_INPUT_PATIENCE_H

#include "moeref/check.h"

/* How long. Told of a failure it says which tensors are wrong, on stderr where progress is shown;
 * from then on SIGINT or SIGTERM ends the search for the cause, not the program. */
typedef struct cli_patience {
    double limit_s; /* of the search; 0: none */
    double since_us;
    moe_check_waiting waiting; /* for moe_check_params; set by cli_patience_begin */
} cli_patience;

/* *patience must stay where it is until cli_patience_end. */
void cli_patience_begin(cli_patience *patience, int64_t limit_s);
/* Signals do what they did before. */
void cli_patience_end(cli_patience *patience);
/* Has one come in between? Then what else was asked for is not begun. */
bool cli_interrupted(void);

/* "O: NMSE 2.8e-03 > 6.0e-05 (bf16 gate); dX: ...": tensors that fail, of more than four how many
 * more there are. */
void cli_failing_text(const moe_check_result *result, char *ret, size_t size);

#endif
