#include "cli/input/manual.h"
#include "moeref/version.h"

#include <ctype.h>
#include <string.h>

static cli_manual_form form;
static const char *brief = "";

enum { HELP_COLUMN = 29 };

void cli_manual_set(cli_manual_form as, const char *brief_line) {
    form = as;
    brief = brief_line;
}

static void print_help(const char *verb, const char *about, const cli_option *options,
                       const char *more) {
    printf("usage: moeref %s [OPTIONS]\n\n", verb);
    cli_help_prose(stdout, about, 0);
    putchar('\n');
    for (; options->name; options++) {
        char left[80];
        snprintf(left, sizeof left, "--%s%s%s", options->name, options->value ? " " : "",
                 options->value ? options->value : "");
        if (strlen(left) > 26)
            printf("  %s\n%*s", left, HELP_COLUMN, "");
        else
            printf("  %-26s ", left);
        cli_help_prose(stdout, options->help, HELP_COLUMN);
    }
    printf("  %-26s this text\n", "--help");
    if (more) {
        putchar('\n');
        cli_help_lines(stdout, more);
    }
}

static void print_page(const char *verb, const char *about, const cli_option *options,
                       const char *more) {
    printf(".TH MOEREF\\-");
    for (const char *at = verb; *at; at++)
        putchar(toupper((unsigned char)*at));
    printf(" 1 \"\" \"moeref %s\"\n.SH NAME\nmoeref\\-%s \\- ", moe_version(), verb);
    cli_troff(stdout, brief);
    printf("\n.SH SYNOPSIS\n.B moeref %s\n[\\fIOPTIONS\\fR]\n.SH DESCRIPTION\n", verb);
    cli_troff(stdout, about);
    printf("\n.SH OPTIONS\n");
    for (; options->name; options++) {
        printf(".TP\n\\fB\\-\\-");
        cli_troff(stdout, options->name);
        printf("\\fR");
        if (options->value) {
            printf(" \\fI");
            cli_troff(stdout, options->value);
            printf("\\fR");
        }
        putchar('\n');
        cli_troff(stdout, options->help);
        putchar('\n');
    }
    if (more) {
        printf(".SH NOTES\n.nf\n");
        cli_troff(stdout, more);
        printf(".fi\n");
    }
    printf(".SH EXIT STATUS\nSee\n.BR moeref (1).\n.SH SEE ALSO\n.BR moeref (1)\n");
}

/* ---- completion ---- */

/* What follows an option: one of the words of "text|json", a file, or nothing that can be known. */
static bool is_choice(const cli_option *o) {
    return o->value && strchr(o->value, '|') && !strpbrk(o->value, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

static bool is_file(const cli_option *o) {
    return o->value &&
           (strstr(o->value, "FILE") || strstr(o->value, "DIR") || strstr(o->value, "PATH"));
}

static void put_choices(const cli_option *o) {
    for (const char *at = o->value; *at; at++)
        putchar(*at == '|' ? ' ' : *at);
}

/* `text` inside '...', with a backslash before what is in `special`; a quote as `quote`. */
static void put_quoted(const char *text, const char *special, const char *quote) {
    for (; *text; text++) {
        if (*text == '\'') {
            fputs(quote, stdout);
            continue;
        }
        if (strchr(special, *text))
            putchar('\\');
        putchar(*text);
    }
}

static void print_bash(const char *verb, const cli_option *options) {
    printf("    %s)\n        words='--help", verb);
    for (const cli_option *o = options; o->name; o++)
        printf(" --%s", o->name);
    printf("'\n        case $before in\n");
    for (const cli_option *o = options; o->name; o++) {
        if (is_choice(o)) {
            printf("        --%s) words='", o->name);
            put_choices(o);
            printf("' ;;\n");
        } else if (o->value) {
            printf("        --%s) %sreturn ;;\n", o->name,
                   is_file(o) ? "compopt -o default; " : "");
        }
    }
    printf("        esac ;;\n");
}

static void print_zsh(const char *verb, const cli_option *options) {
    printf("    %s) _arguments", verb);
    for (const cli_option *o = options; o->name; o++) {
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
        } else if (is_file(o)) {
            printf("_files");
        }
        putchar('\'');
    }
    printf(" ;;\n");
}

static void print_fish(const char *verb, const cli_option *options) {
    for (const cli_option *o = options; o->name; o++) {
        printf("complete -c moeref -n '__fish_seen_subcommand_from %s' -l %s%s", verb, o->name,
               is_file(o) ? " -r -F"
               : o->value ? " -x"
                          : "");
        if (is_choice(o)) {
            printf(" -a '");
            put_choices(o);
            putchar('\'');
        }
        printf(" -d '");
        put_quoted(o->help, "\\", "\\'");
        printf("'\n");
    }
}

void cli_manual_print(const char *verb, const char *about, const cli_option *options,
                      const char *more) {
    switch (form) {
    case CLI_MANUAL_HELP:
        print_help(verb, about, options, more);
        break;
    case CLI_MANUAL_PAGE:
        print_page(verb, about, options, more);
        break;
    case CLI_MANUAL_BASH:
        print_bash(verb, options);
        break;
    case CLI_MANUAL_ZSH:
        print_zsh(verb, options);
        break;
    case CLI_MANUAL_FISH:
        print_fish(verb, options);
    }
}
