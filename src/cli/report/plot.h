/* The picture of a sweep, drawn by gnuplot. */
#ifndef MOE_CLI_REPORT_PLOT_H
#define MOE_CLI_REPORT_PLOT_H

#include "moeref/status.h"

#include <stddef.h>

/* Points of several series over one axis of names. Nothing is owned. */
typedef struct cli_plot {
    const char *x_name, *y_name;
    const char *const *names; /* [n_series] */
    size_t n_series;
    const char *const *x; /* [count] */
    const double *y;      /* [count] */
    const size_t *series; /* [count] */
    size_t count;
} cli_plot;

/* Writes PATH as a gnuplot script, or, where it ends in .png, PATH.gp and the picture. */
moe_status cli_plot_write(const cli_plot *p, const char *path);

#endif
