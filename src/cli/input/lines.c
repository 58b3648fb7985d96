#define _GNU_SOURCE /* tee */
#include "cli/input/lines.h"
#include "cli/input/messages.h"
#include "core/open_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

moe_status cli_lines_open(const char *path, cli_lines *ret) {
    *ret = (cli_lines){.path = path};
    if (strcmp(path, "-") == 0) {
        ret->in = stdin;
        ret->path = "standard input"; /* in messages */
        return MOE_OK;
    }
    const int fd = moe_int_open_to_read(path);
    ret->in = fd < 0 ? NULL : fdopen(fd, "r");
    if (ret->in)
        return MOE_OK;
    const int error = errno;
    if (fd >= 0)
        close(fd);
    return moe_fail(cli_log(), MOE_E_IO, "%s: %s", path,
                    error == ETIMEDOUT ? "a pipe that nobody writes into" : strerror(error));
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

/* Like getline, but of a line that is longer than any case it reads no more: /dev/zero has no end.
 * Returns the length with the line's end, 0 behind the last line, -1 after an error (errno). */
static ssize_t read_line(FILE *in, char **ret) {
    size_t length = 0, room = 0;
    for (int c = 0; c != '\n' && (c = getc(in)) != EOF; length++) {
        if (length + 1 >= room) {
            char *longer = room < CLI_LINE_MAX ? realloc(*ret, room = 2 * room + 256) : NULL;
            if (!longer) {
                errno = room < CLI_LINE_MAX ? ENOMEM : EFBIG;
                return -1;
            }
            *ret = longer;
        }
        (*ret)[length] = (char)c;
        (*ret)[length + 1] = '\0';
    }
    return ferror(in) ? -1 : (ssize_t)length;
}

moe_status cli_lines_next(cli_lines *lines, cli_line *ret) {
    for (;;) {
        *ret = (cli_line){0};
        const ssize_t length = read_line(lines->in, &ret->text);
        if (length <= 0) {
            const int error = errno;
            free(ret->text);
            ret->text = NULL;
            return length == 0 ? MOE_OK
                               : moe_fail(cli_log(), MOE_E_IO, "%s: line %ld: %s", lines->path,
                                          lines->number + 1,
                                          error == EFBIG ? "longer than 4 MiB" : strerror(error));
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
