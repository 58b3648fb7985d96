/* Measured rows as JSON: an object for each, whose members are the columns of a text table. They
 * become that text, so that there is one reader. */
#include "layer/number.h"
#include "sim/fit/table.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A value as it would stand in a field; false: it could not. */
static bool put_value(FILE *to, const json_t *value) {
    char real[32];
    if (json_is_real(value))
        moe_int_print_real(json_real_value(value), real, sizeof real);
    if (json_is_integer(value))
        fprintf(to, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        fputs(real, to);
    else if (json_is_string(value) && !strpbrk(json_string_value(value), "\t\r\n"))
        fputs(json_string_value(value), to);
    else
        return false;
    return true;
}

/* `kernel` comes first, which is how a table of layers is told from one of products. */
static bool put_row(FILE *to, json_t *first, const json_t *row, bool header) {
    const char *key;
    json_t *unused;
    bool good = json_is_object(row) && json_object_size(row) == json_object_size(first);
    const json_t *kernel = json_object_get(row, "kernel");
    if (kernel && header)
        fputs("kernel", to);
    else if (kernel)
        good = put_value(to, kernel) && good;
    json_object_foreach(first, key, unused) {
        if (strcmp(key, "kernel") == 0)
            continue;
        fputc('\t', to);
        if (header)
            fputs(key, to);
        else
            good = put_value(to, json_object_get(row, key)) && good;
    }
    fputc('\n', to);
    return good;
}

moe_status moe_int_table_text_of(const json_t *rows, const char *path, const moe_log *log,
                                 char **ret) {
    size_t size, i = 0, bad = 0;
    json_t *first = json_array_get(rows, 0), *row;
    if (!json_is_object(first))
        return moe_fail(log, MOE_E_FORMAT, "%s: \"rows\" is no array of objects, or empty", path);
    FILE *to = open_memstream(ret, &size);
    if (!to)
        return moe_fail(log, MOE_E_NOMEM, "%s: out of memory", path);
    put_row(to, first, first, true);
    json_array_foreach(rows, i, row) {
        if (!put_row(to, first, row, false) && !bad)
            bad = i + 1;
    }
    if (fclose(to) != 0) {
        free(*ret);
        return moe_fail(log, MOE_E_NOMEM, "%s: out of memory", path);
    }
    if (!bad)
        return MOE_OK;
    free(*ret);
    return moe_fail(log, MOE_E_FORMAT,
                    "%s: rows[%zu] has not the members of rows[0], each a number or a string", path,
                    bad - 1);
}
