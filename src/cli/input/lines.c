#include "cli/input/lines.h"
#include "cli/input/messages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

moe_status cli_lines_open(const char *path, cli_lines *ret) {
    *ret = (cli_lines){.path = path, .in = strcmp(path, "-") == 0 ? stdin : fopen(path, "r")};
    return ret->in ? MOE_OK : moe_fail(cli_log(), MOE_E_IO, "%s: %s", path, strerror(errno));
}

void cli_lines_close(cli_lines *lines) {
    if (lines->in && lines->in != stdin)
        fclose(lines->in);
    lines->in = NULL;
}

/* Nothing behind a NUL byte is looked at: such a line counts, and is refused. */
static bool counts(const cli_line *line) {
    const char *text = line->text + strspn(line->text, " \t\r");
    return strlen(line->text) != line->length || (*text != '\0' && *text != '#');
}

moe_status cli_lines_next(cli_lines *lines, cli_line *ret) {
    for (;;) {
        size_t size = 0;
        *ret = (cli_line){0};
        const ssize_t length = getline(&ret->text, &size, lines->in);
        if (length < 0) {
            free(ret->text);
            ret->text = NULL;
            return feof(lines->in)
                       ? MOE_OK
                       : moe_fail(cli_log(), MOE_E_IO, "%s: %s", lines->path, strerror(errno));
        }
        ret->length = (size_t)length;
        ret->number = ++lines->number;
        while (ret->length > 0 &&
               (ret->text[ret->length - 1] == '\n' || ret->text[ret->length - 1] == '\r'))
            ret->text[--ret->length] = '\0';
        if (counts(ret))
            return MOE_OK;
        free(ret->text);
    }
}

moe_status cli_line_check(const cli_line *line, const moe_log *log) {
    const size_t length = strlen(line->text);
    return length == line->length
               ? MOE_OK
               : moe_fail(log, MOE_E_INVALID, "a NUL byte stands in column %zu", length + 1);
}
