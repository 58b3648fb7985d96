/* Messages, progress, exit codes. */
#include "cli/input/messages.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool progress_shown;
static bool progress_wanted = true;
static _Thread_local const moe_log *elsewhere;

/* Every router that is asked warns of its layer: once is enough. */
static bool is_said(const char *warning) {
    enum { MOST = 256 };
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static char *said[MOST];
    bool found = false;
    size_t n = 0;
    pthread_mutex_lock(&mutex);
    for (; !found && n < MOST && said[n]; n++)
        found = strcmp(said[n], warning) == 0;
    if (!found && n < MOST)
        said[n] = strdup(warning);
    pthread_mutex_unlock(&mutex);
    return found;
}

static void print_message(void *user, moe_log_level level, const char *message) {
    (void)user;
    if (level > MOE_LOG_WARN || (level == MOE_LOG_WARN && is_said(message)))
        return;
    cli_progress_clear();
    fprintf(stderr, "moeref: %s: %s\n", level == MOE_LOG_WARN ? "warning" : "error", message);
}

const moe_log *cli_log(void) {
    static const moe_log log = {print_message, NULL};
    return elsewhere ? elsewhere : &log;
}

void cli_log_to(const moe_log *log) {
    elsewhere = log;
}

int cli_usage(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "moeref: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    return CLI_USAGE;
}

void cli_note(const char *format, ...) {
    char note[512];
    va_list args;
    va_start(args, format);
    vsnprintf(note, sizeof note, format, args);
    va_end(args);
    if (elsewhere) {
        moe_log_send(elsewhere, MOE_LOG_INFO, "%s", note);
        return;
    }
    cli_progress_clear();
    fprintf(stderr, "moeref: %s\n", note);
}

static void hear(void *user, moe_log_level level, const char *message) {
    cli_heard *h = user;
    if (level == MOE_LOG_ERROR)
        snprintf(h->why, sizeof h->why, "%s", message);
    moe_log_send(h->log, level, "%s", message);
}

moe_log cli_hear(cli_heard *heard) {
    return (moe_log){hear, heard};
}

int cli_exit_code(moe_status status) {
    switch ((int)status) {
    case MOE_OK:
        return CLI_PASSED;
    case MOE_E_INVALID:
    case MOE_E_NOTFOUND:
        return CLI_USAGE;
    case MOE_E_CONTRACT:
        return CLI_FAILED;
    default:
        return CLI_NOT_RUN;
    }
}

/* Columns of the terminal on stderr. A line that fills the last one may wrap. */
static int columns(void) {
    struct winsize window;
    const bool told = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1;
    return told ? window.ws_col : 80;
}

void cli_set_progress(bool shown) {
    progress_wanted = shown;
}

void cli_progress(const char *format, ...) {
    char line[512];
    if (!progress_wanted || !isatty(STDERR_FILENO))
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    fprintf(stderr, "\r\033[K%.*s", columns() - 1, line);
    fflush(stderr);
    progress_shown = true;
}

void cli_progress_clear(void) {
    if (progress_shown)
        fprintf(stderr, "\r\033[K");
    progress_shown = false;
}
