/* Help wrapped to a width, and escaped for troff. */
#include "cli/input/manual.h"

#include <string.h>

/* A single line end inside prose is a space; an empty line stays. */
void cli_help_prose(FILE *to, const char *text, int indent) {
    int column = indent;
    while (*text) {
        const size_t gap = strspn(text, " \n");
        const int length = (int)strcspn(text + gap, " \n");
        if (strncmp(text, "\n\n", 2) == 0)
            fprintf(to, "\n\n%*s", indent, ""), column = indent;
        else if (column > indent && column + 1 + length > CLI_HELP_WIDTH)
            fprintf(to, "\n%*s", indent, ""), column = indent;
        else if (column > indent && length)
            putc(' ', to), column++;
        fprintf(to, "%.*s", length, text + gap);
        column += length;
        text += gap + (size_t)length;
    }
    putc('\n', to);
}

/* Where the second column of a table's line begins, or where the line does. */
static int second_column(const char *line, size_t length) {
    const size_t first = strspn(line, " ");
    for (size_t i = first; i + 2 < length; i++)
        if (line[i] == ' ' && line[i + 1] == ' ')
            return (int)(i + strspn(line + i, " "));
    return (int)first;
}

void cli_help_lines(FILE *to, const char *text) {
    while (*text) {
        const size_t length = strcspn(text, "\n");
        if (length > CLI_HELP_WIDTH) {
            const int from = second_column(text, length);
            char line[1024];
            snprintf(line, sizeof line, "%.*s", (int)length - from, text + from);
            fprintf(to, "%.*s", from, text);
            cli_help_prose(to, line, from);
        } else {
            fprintf(to, "%.*s\n", (int)length, text);
        }
        text += length + (text[length] == '\n');
    }
}

void cli_flow(const char *text, char *ret, size_t size) {
    size_t used = 0;
    for (; *text && used + 1 < size; text++)
        if (!strchr(" \n", *text))
            ret[used++] = *text;
        else if (used && ret[used - 1] != ' ')
            ret[used++] = ' ';
    ret[used] = '\0';
}

void cli_troff(FILE *to, const char *text) {
    for (const char *at = text; *at; at++) {
        if ((at == text || at[-1] == '\n') && (*at == '.' || *at == '\''))
            fputs("\\&", to);
        if (*at == '\\')
            fputs("\\e", to);
        else if (*at == '-')
            fputs("\\-", to);
        else
            putc(*at, to);
    }
}
