/* Text of unknown origin: which bytes are characters, and which may be shown. In a header, since
 * the program moeref, which sees nothing else of the library, uses it too. */
#ifndef MOE_CORE_UTF8_H
#define MOE_CORE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the UTF-8 character at s (Unicode 15, table 3-7); 0: it is none. Reads no byte behind
 * one that cannot follow, and so stops at a text's end. */
static inline size_t moe_int_utf8_length(const unsigned char *s) {
    static const struct {
        unsigned char first, last, least, greatest; /* of the first byte; of the second */
        unsigned char length;
    } rows[] = {
        {0x00, 0x7f, 0x00, 0x00, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        if (s[0] < rows[r].first || s[0] > rows[r].last)
            continue;
        if (rows[r].length > 1 && (s[1] < rows[r].least || s[1] > rows[r].greatest))
            return 0;
        for (size_t i = 2; i < rows[r].length; i++) {
            if (s[i] < 0x80 || s[i] > 0xbf)
                return 0;
        }
        return rows[r].length;
    }
    return 0;
}

/* Controls (C0, DEL, C1) and the marks that turn the direction of writing (U+202A ... U+202E,
 * U+2066 ... U+2069) move a terminal's cursor or lie about what stands there. */
static inline bool moe_int_utf8_is_control(const unsigned char *s) {
    return s[0] < 0x20 || s[0] == 0x7f || (s[0] == 0xc2 && s[1] < 0xa0) ||
           (s[0] == 0xe2 && s[1] == 0x80 && s[2] >= 0xaa && s[2] <= 0xae) ||
           (s[0] == 0xe2 && s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9);
}

/* Makes a line of printable UTF-8 of whatever the `size` bytes hold: ended, white space to blanks,
 * everything else that cannot be shown to '?'. The one place where words of a plug-in pass. */
static inline void moe_int_clean_text(char *text, size_t size) {
    unsigned char *s = (unsigned char *)text;
    if (size == 0)
        return;
    s[size - 1] = '\0';
    while (*s) {
        const size_t length = moe_int_utf8_length(s);
        if (*s == '\n' || *s == '\t' || *s == '\r') {
            *s++ = ' ';
        } else if (length && !moe_int_utf8_is_control(s)) {
            s += length;
        } else {
            for (size_t i = 0; i < (length ? length : 1); i++)
                *s++ = '?';
        }
    }
}

#endif
