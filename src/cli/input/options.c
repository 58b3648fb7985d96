/* Options of a verb from a table: parsing, --help, and a hint for a misspelt one. */
#include "cli/input/options.h"
#include "cli/input/manual.h"
#include "cli/input/messages.h"
#include "cli/input/nearest.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cli_option *find(const cli_option *options, const char *name, size_t length) {
    for (; options->name; options++)
        if (strlen(options->name) == length && strncmp(options->name, name, length) == 0)
            return options;
    return NULL;
}

/* The sentence about an option that is not there, with the one that was meant. */
static int unknown(const char *verb, const cli_option *options, const char *arg, int length) {
    enum { MOST = 64 };
    const char *names[MOST + 1] = {"help"}, *near;
    char word[64];
    for (int i = 0; i + 1 < MOST && options[i].name; i++)
        names[i + 1] = options[i].name;
    snprintf(word, sizeof word, "%.*s", length, arg);
    near = cli_nearest(word, names);
    if (near)
        return cli_usage("moeref %s has no option '--%s'; did you mean --%s?", verb, word, near);
    return cli_usage("moeref %s has no option '--%s' (moeref %s --help lists them)", verb, word,
                     verb);
}

moe_status cli_strings_add(cli_strings *list, const char *value) {
    const char **at = realloc(list->at, (list->count + 1) * sizeof *at);
    if (!at)
        return MOE_E_NOMEM;
    at[list->count++] = value;
    list->at = at;
    return MOE_OK;
}

void cli_strings_destroy(cli_strings *list) {
    free(list->at);
    *list = (cli_strings){0};
}

static int set_int(const cli_option *o, const char *value) {
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (end == value || *end || errno)
        return cli_usage("--%s takes a whole number, not '%s'", o->name, value);
    if (o->kind == CLI_COUNT && number < 1)
        return cli_usage("--%s takes a whole number from 1 on, not '%s'", o->name, value);
    *(int64_t *)o->target = number;
    return -1;
}

static int set_output(const cli_option *o, const char *value) {
    static const char *const names[] = {"text", "json", "csv"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(value, names[i]) == 0 && strstr(o->value, value)) {
            *(cli_output *)o->target = (cli_output)i;
            return -1;
        }
    }
    return cli_usage("--output is %s, not '%s'", o->value, value);
}

static int set_option(const cli_option *o, const char *value) {
    switch (o->kind) {
    case CLI_FLAG:
        *(bool *)o->target = true;
        return -1;
    case CLI_INT:
    case CLI_COUNT:
        return set_int(o, value);
    case CLI_OUTPUT:
        return set_output(o, value);
    case CLI_STRING:
        *(const char **)o->target = value;
        return -1;
    case CLI_STRINGS:
        break;
    }
    return cli_strings_add(o->target, value) ? CLI_NOT_RUN : -1;
}

int cli_parse(int argc, char **argv, const char *about, const cli_option *options, const char *more,
              cli_strings *rest) {
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            cli_manual_print(argv[0], about, options, more);
            return CLI_PASSED;
        }
        if (strncmp(arg, "--", 2) != 0) {
            if (!rest)
                return cli_usage("'%s' is not an option (moeref %s --help lists them)", arg,
                                 argv[0]);
            if (cli_strings_add(rest, arg))
                return CLI_NOT_RUN;
            continue;
        }
        const char *equals = strchr(arg, '=');
        size_t length = equals ? (size_t)(equals - arg) - 2 : strlen(arg) - 2;
        const cli_option *o = find(options, arg + 2, length);
        if (!o)
            return unknown(argv[0], options, arg + 2, (int)length);
        const char *value = equals ? equals + 1 : NULL;
        if (o->kind == CLI_FLAG && value)
            return cli_usage("--%s takes no value", o->name);
        if (o->kind != CLI_FLAG && !value) {
            if (i + 1 == argc)
                return cli_usage("--%s needs a value: %s", o->name, o->value);
            value = argv[++i];
        }
        int code = set_option(o, value);
        if (code >= 0)
            return code;
    }
    return -1;
}
