/* The cross product that a sweep walks. */
#ifndef MOE_CLI_INPUT_AXES_H
#define MOE_CLI_INPUT_AXES_H

#include "cli/input/options.h"

#define CLI_AXIS_KEYS_MAX 8 /* keys that move together on one axis */
#define CLI_AXES_MAX      12

/* "n=256,512,1024", or keys that move together: "n/E/K=256/128/8,512/64/4". */
typedef struct cli_axis {
    char *text; /* owned; keys and values point into it */
    const char *keys[CLI_AXIS_KEYS_MAX];
    size_t n_keys;
    const char **values; /* [n_values * n_keys] */
    size_t n_values;
} cli_axis;

typedef struct cli_axes {
    cli_axis at[CLI_AXES_MAX];
    size_t count;
} cli_axes;

moe_status cli_axes_parse(const cli_strings *texts, cli_axes *ret);
void cli_axes_destroy(cli_axes *axes);

/* Number of points, or 0 when it overflows what a sweep may have (a million). */
size_t cli_axes_points(const cli_axes *axes);

/* The value of the axis' key k at a point; the last axis moves fastest. */
const char *cli_axes_value(const cli_axes *axes, size_t axis, size_t key, size_t point);

#endif
