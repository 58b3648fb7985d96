/* Words of a command line that a reader may paste into a shell. */
#ifndef MOE_CORE_SHELL_H
#define MOE_CORE_SHELL_H

/* The word as a shell reads it back, quoted where it must be; the caller frees it. NULL: no memory.
 */
char *moe_int_shell_word(const char *word);

#endif
