/* moeref: one binary, one verb for each question. */
#include "cli/help.h"
#include "cli/input/messages.h"
#include "moeref/version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A report that could not be written is not a success. */
static int finish(int code) {
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "moeref: the report could not be written to standard output\n");
        return CLI_NOT_RUN;
    }
    return code;
}

static bool is_one_of(const char *word, const char *a, const char *b) {
    return strcmp(word, a) == 0 || strcmp(word, b) == 0;
}

/* A judge and a backend's process take turns on the same cores, and threads that spin while they
 * wait take them from the other: a failing check of T = 512 needs twice the processor time so.
 * OpenMP reads its environment before main, so the program starts once more with threads that
 * sleep. What the user has set stays; verbs that time anything keep OpenMP's own way. */
static void let_threads_sleep(char **argv) {
    const bool judges = strcmp(argv[1], "selftest") == 0 || is_one_of(argv[1], "check", "diagnose");
    if (judges && !getenv("OMP_WAIT_POLICY") && !getenv("GOMP_SPINCOUNT") &&
        setenv("OMP_WAIT_POLICY", "passive", 1) == 0)
        execv("/proc/self/exe", argv); /* where that cannot be done it goes on as it is */
}

int main(int argc, char **argv) {
    if (argc < 2) {
        cli_help_overview(stderr);
        return CLI_USAGE;
    }
    if (is_one_of(argv[1], "--help", "-h")) {
        cli_help_overview(stdout);
        return finish(CLI_PASSED);
    }
    if (strcmp(argv[1], "help") == 0)
        return finish(cli_help(argc - 1, argv + 1));
    if (is_one_of(argv[1], "--version", "-V")) {
        printf("moeref %s\n", moe_version());
        return finish(CLI_PASSED);
    }
    let_threads_sleep(argv);
    const cli_verb *verb = cli_verb_find(argv[1]);
    if (verb)
        return finish(verb->run(argc - 1, argv + 1));
    return cli_usage("there is no verb '%s'%s", argv[1], cli_verb_hint(argv[1]));
}
