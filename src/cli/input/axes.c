#include "cli/input/axes.h"
#include "cli/input/messages.h"

#include <stdlib.h>
#include <string.h>

#define POINTS_MAX 1000000

/* Cuts text at `sep`, in place; returns the number of pieces or 0 for an empty one or too many. */
static size_t cut(char *text, char sep, const char **ret, size_t most) {
    size_t count = 0;
    for (char *next = text; next; count++) {
        char *end = strchr(next, sep);
        if (count == most || *next == sep || *next == '\0')
            return 0;
        ret[count] = next;
        if (end)
            *end++ = '\0';
        next = end;
    }
    return count;
}

static size_t count_char(const char *text, char c) {
    size_t count = 0;
    for (; *text; text++)
        count += *text == c;
    return count;
}

static moe_status parse_axis(const char *text, cli_axis *a) {
    a->text = strdup(text);
    if (!a->text)
        return MOE_E_NOMEM;
    char *values = strchr(a->text, '=');
    if (!values)
        return MOE_E_INVALID;
    *values++ = '\0';
    a->n_keys = cut(a->text, '/', a->keys, CLI_AXIS_KEYS_MAX);
    const size_t tuples = count_char(values, ',') + 1;
    const char **at = calloc(tuples, sizeof *at);
    a->values = calloc(tuples * (a->n_keys + 1), sizeof *a->values);
    moe_status status = at && a->values ? MOE_OK : MOE_E_NOMEM;
    if (!status && (a->n_keys == 0 || cut(values, ',', at, tuples) != tuples))
        status = MOE_E_INVALID;
    for (size_t i = 0; !status && i < tuples; i++) {
        const char *piece[CLI_AXIS_KEYS_MAX];
        /* A single key's values may hold a '/', as file names do. */
        if (a->n_keys == 1)
            piece[0] = at[i];
        else if (cut((char *)at[i], '/', piece, CLI_AXIS_KEYS_MAX) != a->n_keys)
            status = MOE_E_INVALID;
        for (size_t k = 0; !status && k < a->n_keys; k++)
            a->values[i * a->n_keys + k] = piece[k];
    }
    a->n_values = tuples;
    free(at);
    return status;
}

moe_status cli_axes_parse(const cli_strings *texts, cli_axes *ret) {
    cli_axes axes = {0};
    moe_status status = MOE_OK;
    if (texts->count > CLI_AXES_MAX)
        return moe_fail(cli_log(), MOE_E_INVALID, "a sweep has at most %d axes", CLI_AXES_MAX);
    for (size_t i = 0; !status && i < texts->count; i++) {
        status = parse_axis(texts->at[i], &axes.at[axes.count++]);
        if (status)
            moe_fail(cli_log(), status,
                     "--vary \"%s\": write KEY=VALUE,VALUE or KEY/KEY=VALUE/VALUE,VALUE/VALUE",
                     texts->at[i]);
    }
    if (!status && cli_axes_points(&axes) == 0)
        status = moe_fail(cli_log(), MOE_E_INVALID, "more than %d points", POINTS_MAX);
    if (status)
        cli_axes_destroy(&axes);
    else
        *ret = axes;
    return status;
}

void cli_axes_destroy(cli_axes *axes) {
    for (size_t i = 0; i < axes->count; i++) {
        free(axes->at[i].text);
        free(axes->at[i].values);
    }
    *axes = (cli_axes){0};
    /* All counted axes are freed. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
}

size_t cli_axes_points(const cli_axes *axes) {
    size_t points = 1;
    for (size_t i = 0; i < axes->count; i++) {
        points *= axes->at[i].n_values;
        if (points > POINTS_MAX)
            return 0;
    }
    return points;
}

const char *cli_axes_value(const cli_axes *axes, size_t axis, size_t key, size_t point) {
    for (size_t i = axes->count - 1; i > axis; i--)
        point /= axes->at[i].n_values;
    const cli_axis *a = &axes->at[axis];
    return a->values[point % a->n_values * a->n_keys + key];
}
