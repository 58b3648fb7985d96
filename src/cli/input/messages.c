/* Messages, progress, exit codes. */
#include "cli/input/messages.h"
#include "core/clock.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
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

/* Makes room for a line on the terminal. */
static void wipe(void) {
    if (progress_shown)
        fprintf(stderr, "\r\033[K");
    progress_shown = false;
}

static void print_message(void *user, moe_log_level level, const char *message) {
    (void)user;
    if (level > MOE_LOG_WARN || (level == MOE_LOG_WARN && is_said(message)))
        return;
    wipe();
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
    char note[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(note, sizeof note, format, args);
    va_end(args);
    if (elsewhere) {
        moe_log_send(elsewhere, MOE_LOG_INFO, "%s", note);
        return;
    }
    wipe();
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

/* What is being done, and since when it, or what went before it without an end, is. */
static struct {
    pthread_mutex_t mutex;
    char line[512]; /* "": nothing */
    double since_s, last_s;
    bool is_watched;
} current = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static double now_s(void) {
    return 1e-6 * moe_int_now_us();
}

/* Seconds between two lines; 0: none are wanted. */
static double period(void) {
    const char *text = getenv("MOEREF_PROGRESS_SECONDS");
    const double seconds = text ? strtod(text, NULL) : 30;
    return seconds > 0 ? seconds : 0;
}

static void *watch(void *user) {
    const double every_s = *(const double *)user;
    const double step_s = every_s < 4 ? every_s / 4 : 1;
    const struct timespec step = {(time_t)step_s, (long)(1e9 * (step_s - (double)(time_t)step_s))};
    for (;;) {
        nanosleep(&step, NULL);
        pthread_mutex_lock(&current.mutex);
        const double now = now_s();
        if (current.line[0] && now - current.last_s >= every_s) {
            fprintf(stderr, "moeref: %.0f s: %s\n", now - current.since_s, current.line);
            current.last_s = now;
        }
        pthread_mutex_unlock(&current.mutex);
    }
    return NULL;
}

/* Of what takes long a line from time to time stays: whoever looks where a killed run was finds it
 * there. */
static void note_progress(const char *line) {
    static double every_s;
    pthread_t watcher;
    pthread_mutex_lock(&current.mutex);
    if (!current.line[0])
        current.since_s = current.last_s = now_s();
    snprintf(current.line, sizeof current.line, "%s", line);
    if (!current.is_watched) {
        every_s = period();
        if (every_s > 0 && pthread_create(&watcher, NULL, watch, &every_s) == 0)
            pthread_detach(watcher);
        current.is_watched = true;
    }
    pthread_mutex_unlock(&current.mutex);
}

void cli_progress(const char *format, ...) {
    char line[512];
    if (!progress_wanted)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (!isatty(STDERR_FILENO)) {
        note_progress(line);
        return;
    }
    fprintf(stderr, "\r\033[K%.*s", columns() - 1, line);
    fflush(stderr);
    progress_shown = true;
}

void cli_progress_pause(void) {
    wipe();
}

bool cli_progress_is_shown(void) {
    return progress_wanted;
}

void cli_progress_clear(void) {
    wipe();
    pthread_mutex_lock(&current.mutex);
    current.line[0] = '\0';
    pthread_mutex_unlock(&current.mutex);
}
