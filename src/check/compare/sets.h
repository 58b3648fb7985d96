/* Sets of tokens, rows, columns or experts in words. */
#ifndef MOE_CHECK_COMPARE_SETS_H
#define MOE_CHECK_COMPARE_SETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Members of 0 .. count-1. */
typedef struct moe_int_set {
    const bool *has; /* [count] */
    int64_t count;
    int64_t tile; /* tiles that are looked for; 0: of 128, 64, 32 and 16 */
} moe_int_set;

int64_t moe_int_set_size(const moe_int_set *set);

/* "token 17 (of 512)", "tokens 128..255 (128 of 512; tile 1 of 128)", "columns 16..31 of every 64",
 * "column 4 of every 16", "experts {1, 5} (2 of 64)", "all 512 tokens". Appends to the text in buf.
 */
void moe_int_set_words(const moe_int_set *set, const char *word, char *buf, size_t size);

/* Appends as printf does; what does not fit is cut. */
void moe_int_append(char *buf, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
