#include "cli/report/csv.h"

#include <string.h>

void csv_text_quoted(FILE *to, const char *text) {
    putc('"', to);
    for (; *text; text++) {
        if (*text == '"')
            putc('"', to);
        putc(*text, to);
    }
    putc('"', to);
}

void csv_text(FILE *to, const char *text) {
    if (strpbrk(text, ",\"\r\n"))
        csv_text_quoted(to, text);
    else
        fputs(text, to);
}
