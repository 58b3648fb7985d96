/* The picture of a sweep, drawn by gnuplot. */
#ifndef MOE_CLI_REPORT_PLOT_H
#define MOE_CLI_REPORT_PLOT_H

#include "moeref/status.h"

#include <stddef.h>

/* Series of points over one axis. Nothing is owned. */
typedef struct cli_plot {
    const char *title, *subtitle;
    const char *x_label, *y_label;
    const char *const *names; /* [n_series] */
    size_t n_series;
    const char *const *x; /* [n_x] numbers or names */
    size_t n_x;
    const double *y;     /* [n_x][n_series] */
    const double *bound; /* [n_x][n_series] what no kernel passes; 0: not known */
    const char *bound_name;
    const double *low, *high; /* [n_x][n_series] an interval around y; NULL: there is none */
    const char *interval_name;
} cli_plot;

/* -1, or an exit code after a sentence: can it be a plot's name? */
int cli_plot_check(const char *path);

/* Writes PATH as a gnuplot script, or, where it ends in .svg or .png, PATH.gp and the picture. An
 * axis on which all is above 0 and spans more than a decade is logarithmic. Errors: MOE_E_IO;
 * MOE_E_UNSUPPORTED: gnuplot is not there. */
moe_status cli_plot_write(const cli_plot *p, const char *path);

/* The words that all case lines have: the rest is what a picture's points differ in. */
void cli_plot_shared(const char *const *lines, size_t count, char *ret, size_t size);

#endif
