#include "cli/input/completion.h"
#include "cli/input/manual.h"

#include <string.h>

/* What follows an option: one of the words of "text|json", a name, a file, or what cannot be known.
 */
static bool is_choice(const cli_option *o) {
    return o->value && strchr(o->value, '|') && !strpbrk(o->value, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

static bool is_file(const cli_option *o) {
    return o->value &&
           (strstr(o->value, "FILE") || strstr(o->value, "DIR") || strstr(o->value, "PATH"));
}

/* The KIND of `moeref list --names KIND` that an option takes a name of; NULL: it takes none. */
static const char *kind_of(const cli_option *o) {
    static const struct {
        const char *option, *kind;
    } rows[] = {{"backend", "backends"},   {"compute", "methods"},
                {"ep-fault", "ep-faults"}, {"fault", "faults"},
                {"gpu", "gpus"},           {"method", "methods"},
                {"node", "nodes"},         {"node-method", "methods"},
                {"recipe", "recipes"},     {"transport", "transports"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(o->name, rows[i].option) == 0)
            return rows[i].kind;
    return NULL;
}

static void put_choices(const cli_option *o) {
    for (const char *at = o->value; *at; at++)
        putchar(*at == '|' ? ' ' : *at);
}

/* `text` inside '...', with a backslash before what is in `special`; a quote as `quote`. */
static void put_quoted(const char *text, const char *special, const char *quote) {
    char flow[CLI_FLOW_MAX];
    cli_flow(text, flow, sizeof flow);
    for (const char *at = flow; *at; at++) {
        if (*at == '\'') {
            fputs(quote, stdout);
            continue;
        }
        if (strchr(special, *at))
            putchar('\\');
        putchar(*at);
    }
}

void cli_complete_bash(const char *verb, const cli_option *options) {
    printf("    %s)\n        words='--help", verb);
    for (const cli_option *o = options; o->name; o++)
        printf(" --%s", o->name);
    printf("'\n        case $before in\n");
    for (const cli_option *o = options; o->name; o++) {
        const char *kind = kind_of(o), *files = is_file(o) ? "compopt -o default; " : "";
        if (is_choice(o)) {
            printf("        --%s) words='", o->name);
            put_choices(o);
            printf("' ;;\n");
        } else if (kind) {
            printf("        --%s) %swords=$(\"${COMP_WORDS[0]}\" list --names %s 2>/dev/null) ;;\n",
                   o->name, files, kind);
        } else if (o->value) {
            printf("        --%s) %sreturn ;;\n", o->name, files);
        }
    }
    printf("        esac ;;\n");
}

void cli_complete_zsh(const char *verb, const cli_option *options) {
    printf("    %s) _arguments", verb);
    for (const cli_option *o = options; o->name; o++) {
        const char *kind = kind_of(o), *files = is_file(o) ? "_files" : "";
        printf(" \\\n        '%s--%s[", o->kind == CLI_STRINGS ? "*" : "", o->name);
        put_quoted(o->help, "[]:", "'\\''");
        putchar(']');
        if (o->value) {
            putchar(':');
            put_quoted(o->value, "[]:", "'\\''");
            putchar(':');
        }
        if (is_choice(o)) {
            putchar('(');
            put_choices(o);
            putchar(')');
        } else if (kind) {
            printf("{compadd -- $($program list --names %s 2>/dev/null); %s}", kind, files);
        } else {
            fputs(files, stdout);
        }
        putchar('\'');
    }
    printf(" ;;\n");
}

void cli_complete_fish(const char *verb, const cli_option *options) {
    for (const cli_option *o = options; o->name; o++) {
        const char *kind = kind_of(o);
        printf("complete -c moeref -n '__fish_seen_subcommand_from %s' -l %s%s", verb, o->name,
               is_file(o) ? " -r -F"
               : o->value ? " -x"
                          : "");
        if (is_choice(o)) {
            printf(" -a '");
            put_choices(o);
            putchar('\'');
        } else if (kind) {
            printf(" -a '(moeref list --names %s 2>/dev/null)'", kind);
        }
        printf(" -d '");
        put_quoted(o->help, "\\", "\\'");
        printf("'\n");
    }
}
