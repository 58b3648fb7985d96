#include "cli/report/csv.h"

#include <string.h>

void cli_csv_quoted(FILE *to, const char *text) {
    putc('"', to);
    for (; *text; text++) {
        if (*text == '"')
            putc('"', to);
        putc(*text, to);
    }
    putc('"', to);
}

void cli_csv_text(FILE *to, const char *text) {
    if (strpbrk(text, ",\"\r\n"))
        cli_csv_quoted(to, text);
    else
        fputs(text, to);
}
