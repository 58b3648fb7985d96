#include "cli/report/json_text.h"
#include "core/utf8.h"

#include <stdlib.h>
#include <string.h>

json_t *cli_json_text(const char *text) {
    static const char unknown[] = "\xef\xbf\xbd";
    const unsigned char *s = (const unsigned char *)text;
    char *clean = malloc(3 * strlen(text) + 1), *to = clean;
    while (clean && *s) {
        const size_t length = moe_int_utf8_length(s);
        memcpy(to, length ? (const char *)s : unknown, length ? length : 3);
        to += length ? length : 3;
        s += length ? length : 1;
    }
    json_t *string = clean ? json_stringn(clean, (size_t)(to - clean)) : NULL;
    free(clean);
    return string;
}
