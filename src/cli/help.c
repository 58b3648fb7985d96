#include "cli/help.h"
#include "cli/input/manual.h"
#include "cli/input/messages.h"
#include "cli/input/nearest.h"
#include "cli/verbs/verbs.h"
#include "moeref/case.h"
#include "moeref/version.h"

#include <string.h>

#define ROW(name, brief) {#name, brief, cli_##name},
static const cli_verb verbs[] = {CLI_VERBS(ROW)};
static const size_t n_verbs = sizeof verbs / sizeof *verbs;

static const char about[] = "a reference Mixture-of-Experts layer, the judge of every other one";
static const char exit_codes[] =
    "0 all passed, 1 something failed (or was timed faster than possible), 2 usage or nothing "
    "selected, 3 could not run";
static const char case_about[] =
    "A case is one line of KEY=VALUE words in any order: a test's name, a line of a file, and the "
    "way to run a failure again. What --case takes, and --cases a file of:";

const cli_verb *cli_verb_find(const char *name) {
    for (size_t i = 0; i < n_verbs; i++)
        if (strcmp(name, verbs[i].name) == 0)
            return &verbs[i];
    return NULL;
}

const char *cli_verb_hint(const char *word) {
    static char hint[64];
    const char *names[sizeof verbs / sizeof *verbs + 1] = {NULL};
    for (size_t i = 0; i < n_verbs; i++)
        names[i] = verbs[i].name;
    const char *near = cli_nearest(word, names);
    snprintf(hint, sizeof hint, near ? "; did you mean %s?" : " (moeref --help lists them)", near);
    return hint;
}

void cli_help_overview(FILE *to) {
    fprintf(to,
            "moeref: %s\n\nusage: moeref VERB [OPTIONS]      moeref help VERB explains a verb\n\n",
            about);
    for (size_t i = 0; i < n_verbs; i++) {
        fprintf(to, "  %-10s ", verbs[i].name);
        cli_help_prose(to, verbs[i].brief, 13);
    }
    fprintf(to, "\n  help case  the grammar of cases\n  help VERB  a verb's options; so does "
                "moeref VERB --help\n  --version  or -V\n\nexit codes: ");
    cli_help_prose(to, exit_codes, 12);
}

static int help_case(void) {
    cli_help_prose(stdout, case_about, 0);
    printf("\n  moeref check --backend reference --case \"T=64 d=48 n=32 E=4 K=2 dtype=fp32\"\n\n");
    cli_help_lines(stdout, moe_case_help());
    return CLI_PASSED;
}

/* A verb answers --help in the form that was set. */
static int print_verb(const cli_verb *verb, cli_manual_form form) {
    char name[32], option[] = "--help";
    char *argv[] = {name, option, NULL};
    snprintf(name, sizeof name, "%s", verb->name);
    cli_manual_set(form, verb->brief);
    return verb->run(2, argv);
}

static void put_names(const char *before) {
    for (size_t i = 0; i < n_verbs; i++)
        printf("%s%s", i ? " " : before, verbs[i].name);
}

/* ---- manual pages ---- */

static int page_of_program(void) {
    printf(".TH MOEREF 1 \"\" \"moeref %s\"\n.SH NAME\nmoeref \\- ", moe_version());
    cli_troff(stdout, about);
    printf("\n.SH SYNOPSIS\n.B moeref\n\\fIVERB\\fR [\\fIOPTIONS\\fR]\n.SH VERBS\n");
    for (size_t i = 0; i < n_verbs; i++) {
        printf(".TP\n.BR moeref\\-%s (1)\n", verbs[i].name);
        cli_troff(stdout, verbs[i].brief);
        putchar('\n');
    }
    printf(".SH CASES\n");
    cli_troff(stdout, case_about);
    printf("\n.PP\n");
    cli_troff_lines(stdout, moe_case_help());
    printf(".SH EXIT STATUS\n");
    cli_troff(stdout, exit_codes);
    printf("\n.SH ENVIRONMENT\n.TP\n.B MOEREF_BACKEND_PATH\nfolders with plug\\-ins, between "
           "colons, instead of those beside the library\n.TP\n.B MOEREF_GOLDEN\nfolder of golden "
           "files\n.TP\n.B MOEREF_WORKER\nthe program in which plug\\-ins run\n.TP\n.B "
           "MOEREF_MEASURE\nthe program that measures a GPU\n.TP\n.B MOEREF_PROGRESS_SECONDS\n"
           "where standard error is no terminal: how often a line there says how far something\n"
           "long is; 30 where it is not set, 0: never\n.TP\n.B OMP_WAIT_POLICY\n"
           "how threads wait; check, diagnose and selftest set it to passive where neither it nor\n"
           ".B GOMP_SPINCOUNT\nis set\n.TP\n.B NO_COLOR\n"
           "where it is set and not empty, nothing is coloured\n");
    return CLI_PASSED;
}

/* ---- completion ---- */

static void begin_script(cli_manual_form form) {
    switch ((int)form) {
    case CLI_MANUAL_BASH:
        put_names("_moeref() {\n    COMPREPLY=()\n    local word=${COMP_WORDS[COMP_CWORD]}\n"
                  "    local before=${COMP_WORDS[COMP_CWORD-1]} words='help --version ");
        printf("'\n    [ \"$COMP_CWORD\" = 1 ] || case ${COMP_WORDS[1]} in\n");
        put_names("    help) words='case ");
        printf("' ;;\n");
        break;
    case CLI_MANUAL_ZSH:
        printf("#compdef moeref\n_moeref() {\n    local -a verbs=(help ");
        put_names("");
        printf(")\n    local program=$words[1]\n"
               "    if (( CURRENT == 2 )); then compadd -a verbs; return; fi\n"
               "    shift words; (( CURRENT-- ))\n    case $words[1] in\n"
               "    help) compadd case $verbs ;;\n");
        break;
    default:
        printf("complete -c moeref -f\n");
        for (size_t i = 0; i < n_verbs; i++)
            printf("complete -c moeref -n __fish_use_subcommand -a %s\n", verbs[i].name);
        put_names("complete -c moeref -n '__fish_seen_subcommand_from help' -a 'case ");
        printf("'\n");
    }
}

static void end_script(cli_manual_form form) {
    if (form == CLI_MANUAL_BASH)
        printf("    *) words= ;;\n    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
               "}\ncomplete -F _moeref moeref\n");
    else if (form == CLI_MANUAL_ZSH)
        printf("    esac\n}\n_moeref \"$@\"\n");
}

static int completion(const char *shell) {
    static const struct {
        const char *shell;
        cli_manual_form form;
    } rows[] = {{"bash", CLI_MANUAL_BASH}, {"zsh", CLI_MANUAL_ZSH}, {"fish", CLI_MANUAL_FISH}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(shell, rows[i].shell) != 0)
            continue;
        begin_script(rows[i].form);
        for (size_t v = 0; v < n_verbs; v++)
            print_verb(&verbs[v], rows[i].form);
        end_script(rows[i].form);
        return CLI_PASSED;
    }
    return cli_usage("--completion is bash, zsh or fish, not '%s'", shell);
}

int cli_help(int argc, char **argv) {
    const char *const form = argc > 1 ? argv[1] : "";
    const bool is_page = strcmp(form, "--man") == 0;
    if (strcmp(form, "--completion") == 0 && argc == 3)
        return completion(argv[2]);
    const char *word = argc > 1 + is_page ? argv[1 + is_page] : NULL;
    if (argc > 2 + is_page)
        return cli_usage("moeref help takes one word, not '%s'", argv[2 + is_page]);
    if (!word && is_page)
        return page_of_program();
    if (!word) {
        cli_help_overview(stdout);
        return CLI_PASSED;
    }
    if (strcmp(word, "case") == 0 && !is_page)
        return help_case();
    const cli_verb *verb = cli_verb_find(word);
    if (verb)
        return print_verb(verb, is_page ? CLI_MANUAL_PAGE : CLI_MANUAL_HELP);
    return cli_usage("there is no verb '%s', and no other help but 'case'%s", word,
                     cli_verb_hint(word));
}
