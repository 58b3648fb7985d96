/* Plots of a sweep: a gnuplot script beside the data, and a picture where gnuplot is installed. */
#include "cli/report/plot.h"
#include "cli/input/messages.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static bool ends_with(const char *text, const char *end) {
    const size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
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
                        "gnuplot is not installed (Debian: apt-get install gnuplot-nox); the "
                        "script %s is ready for it",
                        script);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return moe_fail(cli_log(), MOE_E_IO, "gnuplot failed on %s", script);
    return MOE_OK;
}

static void write_block(FILE *to, const cli_plot *p, size_t series) {
    fprintf(to, "$s%zu << EOD\n", series);
    for (size_t i = 0; i < p->count; i++) {
        if (p->series[i] == series)
            fprintf(to, "%s %.6g\n", p->x[i], p->y[i]);
    }
    fprintf(to, "EOD\n");
}

static void write_script(FILE *to, const cli_plot *p, const char *picture) {
    if (picture)
        fprintf(to, "set terminal pngcairo size 900,600\nset output '%s'\n", picture);
    fprintf(to, "set xlabel '%s'\nset ylabel '%s'\nset key outside right\nset grid\n", p->x_name,
            p->y_name);
    for (size_t s = 0; s < p->n_series; s++)
        write_block(to, p, s);
    fprintf(to, "plot ");
    for (size_t s = 0; s < p->n_series; s++)
        fprintf(to, "%s$s%zu using 0:2:xtic(1) with linespoints title '%s' noenhanced",
                s ? ", \\\n  " : "", s, p->names[s]);
    fprintf(to, "\n");
}

moe_status cli_plot_write(const cli_plot *p, const char *path) {
    char script[4096];
    const size_t length = strlen(path);
    const bool picture = ends_with(path, ".png");
    if (length + sizeof ".gp" > sizeof script || strchr(path, '\''))
        return moe_fail(cli_log(), MOE_E_INVALID, "--plot: the name %s cannot be used", path);
    memcpy(script, path, length);
    strcpy(script + length, picture ? ".gp" : "");
    FILE *to = fopen(script, "w");
    if (!to)
        return moe_fail(cli_log(), MOE_E_IO, "%s: %s", script, strerror(errno));
    write_script(to, p, picture ? path : NULL);
    if (fclose(to) != 0)
        return moe_fail(cli_log(), MOE_E_IO, "%s: %s", script, strerror(errno));
    return picture ? run_gnuplot(script) : MOE_OK;
}
