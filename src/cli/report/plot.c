/* Plots of a sweep: a gnuplot script with its data, and a picture where gnuplot is installed. */
#include "cli/report/plot.h"
#include "cli/input/messages.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a picture's name ends in; any other name is that of a script. */
static const struct {
    const char *end, *terminal;
} pictures[] = {
    {".svg", "svg size 900,600 dynamic background '#ffffff'"},
    {".png", "pngcairo size 900,600"},
};

/* Pictures that are not drawn: a script of such a name would be taken for one. */
static const char *const refused[] = {".pdf", ".jpg", ".jpeg", ".gif", ".eps", ".ps", ".html"};

/* That gnuplot has; more series take dashes too, but never those of a bound. */
#define COLOURS ((size_t)8)

static bool ends_with(const char *text, const char *end) {
    const size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

/* NULL: the path is a script's. */
static const char *terminal_of(const char *path) {
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++)
        if (ends_with(path, pictures[i].end))
            return pictures[i].terminal;
    return NULL;
}

int cli_plot_check(const char *path) {
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (ends_with(path, refused[i]))
            return cli_usage("--plot draws .svg and .png, and writes a gnuplot script under any "
                             "other name; it cannot draw %s",
                             path);
    return strchr(path, '\'') ? cli_usage("--plot: no name with a ': %s", path) : -1;
}

/* Runs gnuplot on the script without a shell. */
static moe_status run_gnuplot(const char *script) {
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        execlp("gnuplot", "gnuplot", script, (char *)NULL);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return moe_fail(cli_log(), MOE_E_IO, "gnuplot: %s", strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return moe_fail(cli_log(), MOE_E_UNSUPPORTED,
                        "no picture: gnuplot is not installed (Debian: apt-get install "
                        "gnuplot-nox); the script %s is ready for it",
                        script);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return moe_fail(cli_log(), MOE_E_IO, "no picture: gnuplot failed on %s", script);
    return MOE_OK;
}

/* Smallest and greatest of what was seen. */
typedef struct range {
    double least, greatest;
} range;

static void widen(range *r, double value) {
    r->least = fmin(r->least, value);
    r->greatest = fmax(r->greatest, value);
}

static bool spans_a_decade(range r) {
    return r.least > 0 && r.greatest > 10 * r.least;
}

/* False: some are names. */
static bool x_is_numeric(const cli_plot *p, range *ret) {
    for (size_t i = 0; i < p->n_x; i++) {
        char *end;
        const double value = strtod(p->x[i], &end);
        if (end == p->x[i] || *end || !isfinite(value))
            return false;
        widen(ret, value);
    }
    return true;
}

/* A text between quotes, on one line. */
static void put_text(FILE *to, const char *text) {
    for (; *text; text++) {
        if (strchr("\"\\", *text))
            putc('\\', to);
        putc((unsigned char)*text < 0x20 ? ' ' : *text, to);
    }
}

static void put_set(FILE *to, const char *what, const char *text) {
    fprintf(to, "set %s \"", what);
    put_text(to, text);
    fprintf(to, "\" noenhanced\n");
}

static void write_axes(FILE *to, const cli_plot *p) {
    range y = {INFINITY, -INFINITY};
    for (size_t i = 0; i < p->n_x * p->n_series; i++) {
        widen(&y, p->y[i]);
        if (p->bound[i] > 0)
            widen(&y, p->bound[i]);
        if (p->low)
            widen(&y, p->low[i]), widen(&y, p->high[i]);
    }
    if (spans_a_decade(y))
        fprintf(to, "set logscale y\n");
    else if (y.least >= 0)
        fprintf(to, "set yrange [0:*]\n");
    put_set(to, "xlabel", p->x_label);
    put_set(to, "ylabel", p->y_label);
    fprintf(to, "set title \"");
    put_text(to, p->title);
    fprintf(to, "\\n");
    put_text(to, p->subtitle);
    fprintf(to, "\" noenhanced\nset xtics noenhanced\nset key outside bottom center "
                "horizontal height 1\nset grid\n");
}

/* x, y, bound, and the interval's ends; a name where x is one. */
static void write_block(FILE *to, const cli_plot *p, size_t series) {
    fprintf(to, "$s%zu << EOD\n", series);
    for (size_t i = 0; i < p->n_x; i++) {
        const size_t at = i * p->n_series + series;
        fprintf(to, "\"");
        put_text(to, p->x[i]);
        fprintf(to, "\" %.9g %.9g", p->y[at], p->bound[at]);
        if (p->low)
            fprintf(to, " %.9g %.9g", p->low[at], p->high[at]);
        fprintf(to, "\n");
    }
    fprintf(to, "EOD\n");
}

static bool has_bound(const cli_plot *p) {
    for (size_t i = 0; i < p->n_x * p->n_series; i++)
        if (!(p->bound[i] > 0))
            return false;
    return true;
}

/* One line says it where all series have the same bound. */
static bool bound_is_shared(const cli_plot *p) {
    for (size_t i = 0; i < p->n_x * p->n_series; i++)
        if (p->bound[i] != p->bound[i - i % p->n_series])
            return false;
    return true;
}

/* Bands below the lines; the key says once what they are. */
static void write_bands(FILE *to, const cli_plot *p, const char *at) {
    for (size_t s = 0; p->low && s < p->n_series; s++) {
        fprintf(to,
                "$s%zu using %s:4:5 with filledcurves fs transparent solid 0.15 noborder lc %zu ",
                s, at, s + 1);
        fprintf(to, s ? "notitle" : "title \"%s\"", p->interval_name);
        fprintf(to, ", \\\n  ");
    }
}

static void write_lines(FILE *to, const cli_plot *p) {
    range x = {INFINITY, -INFINITY};
    const bool numeric = x_is_numeric(p, &x), shared = bound_is_shared(p);
    const char *const at = numeric ? "(strcol(1)+0)" : "0";
    if (numeric && spans_a_decade(x))
        fprintf(to, "set logscale x\n");
    fprintf(to, "plot ");
    write_bands(to, p, at);
    for (size_t s = 0; s < p->n_series; s++) {
        fprintf(to, "%s$s%zu using %s:2:xtic(1) with linespoints lc %zu dt %zu title \"",
                s ? ", \\\n  " : "", s, at, s + 1, s < COLOURS ? 1 : s / COLOURS + 2);
        put_text(to, p->names[s]);
        fprintf(to, "\" noenhanced");
    }
    for (size_t s = 0; has_bound(p) && s < (shared ? 1 : p->n_series); s++) {
        fprintf(to, ", \\\n  $s%zu using %s:3 with lines dashtype 2 lc %s%zu title \"", s, at,
                shared ? "rgb 'gray40' lw " : "", shared ? 1 : s + 1);
        put_text(to, p->bound_name);
        if (!shared)
            put_text(to, " of "), put_text(to, p->names[s]);
        fprintf(to, "\" noenhanced");
    }
    fprintf(to, "\n");
}

static void write_script(FILE *to, const cli_plot *p, const char *picture) {
    if (picture)
        fprintf(to, "set terminal %s\nset output '%s'\n", terminal_of(picture), picture);
    write_axes(to, p);
    for (size_t s = 0; s < p->n_series; s++)
        write_block(to, p, s);
    write_lines(to, p);
}

moe_status cli_plot_write(const cli_plot *p, const char *path) {
    char script[4096];
    const bool picture = terminal_of(path) != NULL;
    if (snprintf(script, sizeof script, "%s%s", path, picture ? ".gp" : "") >= (int)sizeof script)
        return moe_fail(cli_log(), MOE_E_INVALID, "--plot: the name is too long");
    FILE *to = fopen(script, "w");
    if (!to)
        return moe_fail(cli_log(), MOE_E_IO, "%s: %s", script, strerror(errno));
    write_script(to, p, picture ? path : NULL);
    if (ferror(to) | fclose(to))
        return moe_fail(cli_log(), MOE_E_IO, "%s: %s", script, strerror(errno));
    if (!picture)
        return MOE_OK;
    const moe_status status = run_gnuplot(script);
    if (status)
        unlink(path); /* half a picture */
    return status;
}

static bool has_word(const char *line, const char *word) {
    const size_t length = strlen(word);
    for (const char *at = line; (at = strstr(at, word)); at += length)
        if ((at == line || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
            return true;
    return false;
}

void cli_plot_shared(const char *const *lines, size_t count, char *ret, size_t size) {
    char *rest = NULL, *first = count ? strdup(lines[0]) : NULL;
    ret[0] = '\0';
    for (char *word = first ? strtok_r(first, " ", &rest) : NULL; word;
         word = strtok_r(NULL, " ", &rest)) {
        size_t have = 0;
        const size_t used = strlen(ret);
        while (have < count && has_word(lines[have], word))
            have++;
        if (have == count)
            snprintf(ret + used, size - used, "%s%s", used ? " " : "", word);
    }
    free(first);
}
