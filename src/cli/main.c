/* moeref: one binary, one verb for each question. */
#include "cli/input/messages.h"
#include "cli/verbs/verbs.h"
#include "moeref/version.h"

#include <stdio.h>
#include <string.h>

static const cli_verb verbs[] = {
    {"validate", "the main job: check backends, time one, hold the times against a prediction",
     cli_validate},
    {"check", "is a backend (or a file of outputs) right, and if not, where?", cli_check},
    {"bench", "how fast is a backend, against its device's roofline?", cli_bench},
    {"predict", "how long would this layer take on that GPU, how much memory, what bounds it?",
     cli_predict},
    {"trace", "a predicted timeline, one row per SM, for Perfetto", cli_trace},
    {"sweep", "predictions over a cross product of values", cli_sweep},
    {"calibrate", "fit a GPU description to measured times", cli_calibrate},
    {"golden", "list, verify, regenerate or export golden outputs", cli_golden},
    {"list", "backends, cases, model families", cli_list},
};

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
        return CLI_PASSED;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("moeref %s\n", moe_version());
        return CLI_PASSED;
    }
    for (size_t i = 0; i < n_verbs; i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return finish(verbs[i].run(argc - 1, argv + 1));
    return cli_usage("there is no verb '%s' (moeref --help lists them)", argv[1]);
}
