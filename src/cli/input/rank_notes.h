/* What ranks in processes of their own were doing when one of them ended. */
#ifndef MOE_CLI_INPUT_RANK_NOTES_H
#define MOE_CLI_INPUT_RANK_NOTES_H

#include <stddef.h>
#include <stdint.h>

typedef struct cli_rank_notes cli_rank_notes;

/* A file for them, which processes that are started from now on find in the environment. NULL: it
 * cannot be made, and they keep none. */
cli_rank_notes *cli_rank_notes_open(int32_t ranks);
/* "the process of rank 3 ended, after dispatch, while others waited for it in combine", "of rank 1
 * or 3" where both may be it, and "a rank's process ended" where nobody waits. */
void cli_rank_notes_say(const cli_rank_notes *notes, char *ret, size_t size);
void cli_rank_notes_close(cli_rank_notes **notes);

#endif
