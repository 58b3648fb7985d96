#include "cli/input/manual.h"
#include "cli/input/completion.h"
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
    char flow[CLI_FLOW_MAX];
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
        cli_flow(options->help, flow, sizeof flow);
        cli_troff(stdout, flow);
        putchar('\n');
    }
    if (more) {
        printf(".SH NOTES\n.nf\n");
        cli_troff(stdout, more);
        printf(".fi\n");
    }
    printf(".SH EXIT STATUS\nSee\n.BR moeref (1).\n.SH SEE ALSO\n.BR moeref (1)\n");
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
        cli_complete_bash(verb, options);
        break;
    case CLI_MANUAL_ZSH:
        cli_complete_zsh(verb, options);
        break;
    case CLI_MANUAL_FISH:
        cli_complete_fish(verb, options);
    }
}
