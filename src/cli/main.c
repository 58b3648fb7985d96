/* moeref: one binary, one verb for each question. */
#include "cli/input/messages.h"
#include "cli/verbs/verbs.h"
#include "moeref/version.h"

#include <stdio.h>
#include <string.h>

typedef struct verb {
    const char *name, *brief;
    int (*run)(int argc, char **argv);
} verb;

#define ROW(name, brief) {#name, brief, cli_##name},
static const verb verbs[] = {CLI_VERBS(ROW)};
static const size_t n_verbs = sizeof verbs / sizeof *verbs;

static void print_help(FILE *to) {
    fprintf(to, "moeref: a reference Mixture-of-Experts layer, the judge of every other one\n\n"
                "usage: moeref VERB [OPTIONS]      moeref VERB --help explains a verb\n\n");
    for (size_t i = 0; i < n_verbs; i++)
        fprintf(to, "  %-10s %s\n", verbs[i].name, verbs[i].brief);
    fprintf(to,
            "\nexit codes: 0 all passed, 1 something failed (or was timed faster than possible), "
            "2 usage or nothing selected,\n            3 could not run\n");
}

/* A report that could not be written is not a success. */
static int finish(int code) {
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "moeref: the report could not be written to standard output\n");
        return CLI_NOT_RUN;
    }
    return code;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return finish(CLI_PASSED);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("moeref %s\n", moe_version());
        return finish(CLI_PASSED);
    }
    for (size_t i = 0; i < n_verbs; i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return finish(verbs[i].run(argc - 1, argv + 1));
    return cli_usage("there is no verb '%s' (moeref --help lists them)", argv[1]);
}
