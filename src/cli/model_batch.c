/* The lines of a file on all cores, a chunk at a time. What they print comes out in their order,
 * and what they say is said in it. */
#include "cli/model_cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_LINES 512
#define CHUNK_BYTES (1 << 22) /* of their text: routes by counts can be long */

typedef struct batch_line {
    char *text;
    size_t length; /* more than strlen(text) where a NUL byte stands in it */
    long number;
    char *out;
    size_t out_size;
    moe_status status;
    bool spoke; /* there were messages */
} batch_line;

typedef struct batch {
    const char *path;
    FILE *in;
    model_line_fn make;
    const void *user;
    long number; /* of the line read last */
    long cases;
    batch_line lines[CHUNK_LINES];
    size_t count;
} batch;

static bool is_empty(const char *text) {
    text += strspn(text, " \t\r\n");
    return *text == '\0' || *text == '#';
}

/* MOE_OK with count == 0: the end. Who types the lines wants each answered. */
static moe_status read_chunk(batch *b) {
    const size_t most = isatty(fileno(b->in)) ? 1 : CHUNK_LINES;
    size_t bytes = 0;
    b->count = 0;
    while (b->count < most && bytes < CHUNK_BYTES) {
        char *text = NULL;
        size_t size = 0;
        const ssize_t length = getline(&text, &size, b->in);
        if (length < 0) {
            free(text);
            return feof(b->in) ? MOE_OK
                               : moe_fail(cli_log(), MOE_E_IO, "%s: %s", b->path, strerror(errno));
        }
        b->number++;
        if (is_empty(text) && strlen(text) == (size_t)length) {
            free(text);
            continue;
        }
        b->lines[b->count++] =
            (batch_line){.text = text, .length = (size_t)length, .number = b->number};
        bytes += size;
    }
    return MOE_OK;
}

static moe_status make_line(const batch *b, const batch_line *line, const moe_log *log, FILE *to) {
    if (strlen(line->text) != line->length)
        return moe_fail(log, MOE_E_INVALID, "a NUL byte stands in column %zu",
                        strlen(line->text) + 1);
    return b->make(b->user, line->text, log, to);
}

static void note_message(void *user, moe_log_level level, const char *message) {
    (void)level;
    (void)message;
    ((batch_line *)user)->spoke = true;
}

static void make_chunk(batch *b) {
#pragma omp parallel for schedule(dynamic, 16)
    for (size_t i = 0; i < b->count; i++) {
        batch_line *line = &b->lines[i];
        const moe_log log = {note_message, line};
        FILE *to = open_memstream(&line->out, &line->out_size);
        line->status = to ? make_line(b, line, &log, to) : MOE_E_NOMEM;
        if (to && fclose(to) != 0)
            line->status = MOE_E_NOMEM;
    }
}

/* A line that had something to say is made again, aloud, in its turn. */
static moe_status print_line(const batch *b, const batch_line *line) {
    if (!line->status && !line->spoke) {
        fwrite(line->out, 1, line->out_size, stdout);
        return MOE_OK;
    }
    const moe_status st = make_line(b, line, cli_log(), stdout);
    if (st)
        moe_log_send(cli_log(), MOE_LOG_ERROR, "%s: line %ld stopped the batch", b->path,
                     line->number);
    return st;
}

static moe_status print_chunk(batch *b) {
    moe_status st = MOE_OK;
    cli_progress_clear();
    for (size_t i = 0; i < b->count; i++) {
        if (!st)
            st = print_line(b, &b->lines[i]);
        free(b->lines[i].text);
        free(b->lines[i].out);
    }
    b->cases += (long)b->count;
    if (!st && (fflush(stdout) || ferror(stdout)))
        st = MOE_E_IO; /* main says so */
    if (!st && !isatty(STDOUT_FILENO))
        cli_progress("%ld lines", b->number);
    return st;
}

moe_status model_batch(const char *path, model_line_fn make, const void *user) {
    batch b = {.path = path, .make = make, .user = user};
    moe_status st = MOE_OK, read = MOE_OK;
    b.in = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    if (!b.in)
        return moe_fail(cli_log(), MOE_E_IO, "%s: %s", path, strerror(errno));
    do {
        read = read_chunk(&b);
        make_chunk(&b);
        st = print_chunk(&b);
    } while (!st && !read && b.count > 0);
    cli_progress_clear();
    if (b.in != stdin)
        fclose(b.in);
    if (st || read)
        return st ? st : read;
    return b.cases ? MOE_OK : moe_fail(cli_log(), MOE_E_NOTFOUND, "%s: no case in it", path);
}
