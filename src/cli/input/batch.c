/* The lines of a file on all cores, a chunk at a time. What they print comes out in their order,
 * and what they say is said in it. */
#include "cli/input/batch.h"
#include "cli/input/lines.h"
#include "cli/input/messages.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_LINES 512
#define CHUNK_BYTES (1 << 22) /* of their text: routes by counts can be long */

typedef struct batch_line {
    cli_line in;
    char *out;
    size_t out_size;
    moe_status status;
    bool spoke; /* there were messages */
} batch_line;

typedef struct batch {
    cli_lines in;
    const cli_batch_job *job;
    long cases, failed;
    batch_line lines[CHUNK_LINES];
    size_t count;
} batch;

/* MOE_OK with count == 0: the end. Who types the lines wants each answered. */
static moe_status read_chunk(batch *b) {
    const size_t most = isatty(fileno(b->in.in)) ? 1 : CHUNK_LINES;
    size_t bytes = 0;
    b->count = 0;
    while (b->count < most && bytes < CHUNK_BYTES) {
        cli_line line;
        const moe_status status = cli_lines_next(&b->in, &line);
        if (status || !line.text)
            return status;
        b->lines[b->count++] = (batch_line){.in = line};
        bytes += line.length;
    }
    return MOE_OK;
}

static moe_status make_line(const batch *b, const batch_line *line, const moe_log *log, FILE *to) {
    const moe_status status = cli_line_check(&line->in, log);
    return status ? status : b->job->make(b->job->user, line->in.text, log, to);
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

/* A line that is made aloud: where it stands, and its first error. */
typedef struct loud_line {
    const char *path;
    long number;
    char why[512];
} loud_line;

static void say_where(void *user, moe_log_level level, const char *message) {
    loud_line *l = user;
    if (level == MOE_LOG_ERROR && !l->why[0])
        snprintf(l->why, sizeof l->why, "%s", message);
    moe_log_send(cli_log(), level, "%s: line %ld: %s", l->path, l->number, message);
}

/* A line that had something to say is made again, aloud, in its turn. */
static moe_status print_line(batch *b, const batch_line *line) {
    if (!line->status && !line->spoke) {
        fwrite(line->out, 1, line->out_size, stdout);
        return MOE_OK;
    }
    loud_line l = {.path = b->in.path, .number = line->in.number};
    const moe_log log = {say_where, &l};
    const moe_status status = make_line(b, line, &log, stdout);
    if (status == MOE_OK || status == MOE_E_NOMEM)
        return status;
    b->job->fail(b->job->user, line->in.text, l.why[0] ? l.why : moe_status_str(status), stdout);
    b->failed++;
    return MOE_OK;
}

static moe_status print_chunk(batch *b) {
    moe_status status = MOE_OK;
    cli_progress_clear();
    for (size_t i = 0; i < b->count; i++) {
        if (!status)
            status = print_line(b, &b->lines[i]);
        free(b->lines[i].in.text);
        free(b->lines[i].out);
    }
    b->cases += (long)b->count;
    if (!status && (fflush(stdout) || ferror(stdout)))
        status = MOE_E_IO; /* main says so */
    if (!status && !isatty(STDOUT_FILENO))
        cli_progress("%ld lines", b->in.number);
    return status;
}

moe_status cli_batch(const char *path, const cli_batch_job *job, long *ret_failed) {
    batch b = {.job = job};
    moe_status status = cli_lines_open(path, &b.in), read = MOE_OK;
    if (status)
        return status;
    do {
        read = read_chunk(&b);
        make_chunk(&b);
        status = print_chunk(&b);
    } while (!status && !read && b.count > 0);
    cli_progress_clear();
    cli_lines_close(&b.in);
    *ret_failed = b.failed;
    if (status || read)
        return status ? status : read;
    return b.cases ? MOE_OK : moe_fail(cli_log(), MOE_E_NOTFOUND, "%s: no case in it", b.in.path);
}
