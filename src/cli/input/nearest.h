/* Which word was meant by one that is not there? */
#ifndef MOE_CLI_INPUT_NEAREST_H
#define MOE_CLI_INPUT_NEAREST_H

/* Of `names`, ended by NULL, the one with the fewest letters to insert, leave out, replace, or swap
 * with the next: at most a third of the word's, or it begins with the word or the word with it.
 * NULL: none is near. */
const char *cli_nearest(const char *word, const char *const *names);

#endif
