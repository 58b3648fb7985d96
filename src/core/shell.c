#include "core/shell.h"

#include <stdlib.h>
#include <string.h>

/* Characters that mean themselves anywhere in a word. */
static const char plain[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:,=+@%";

/* In single quotes all but the single quote means itself: that is '\'' outside of them. */
static char *quoted(const char *word) {
    static const char quote[] = "'\\''";
    size_t size = 3;
    for (const char *s = word; *s; s++)
        size += *s == '\'' ? sizeof quote - 1 : 1;
    char *out = malloc(size), *to = out;
    if (!out)
        return NULL;
    *to++ = '\'';
    for (const char *s = word; *s; s++) {
        if (*s == '\'') {
            memcpy(to, quote, sizeof quote - 1);
            to += sizeof quote - 1;
        } else {
            *to++ = *s;
        }
    }
    memcpy(to, "'", 2);
    return out;
}

char *moe_int_shell_word(const char *word) {
    size_t length = strlen(word);
    if (length == 0 || strspn(word, plain) < length)
        return quoted(word);
    char *out = malloc(length + 1);
    return out ? memcpy(out, word, length + 1) : NULL;
}
