/* The verbs of the command line, VERB(name, what it answers), in the order of the help.
 *
 * A verb is one row here, which declares it and gives it its place in the program, and one file
 * NAME.c, which defines cli_NAME. */
#ifndef MOE_CLI_VERBS_VERBS_H
#define MOE_CLI_VERBS_VERBS_H

/* clang-format off */
#define CLI_VERBS(VERB)                                                                           \
    VERB(validate,                                                                                \
         "the main job: check backends, time one, hold the times against a prediction")           \
    VERB(check, "is a backend (or a file of outputs) right, and if not, where?")                  \
    VERB(diagnose, "judge again, elsewhere, what check --dump-on-fail kept of a failure")          \
    VERB(bench, "how fast is a backend, against its device's roofline?")                          \
    VERB(predict, "how long would this layer take on that GPU, how much memory, what bounds it?") \
    VERB(memory, "which tensors does a layer keep, for how long, and what is its peak?")           \
    VERB(trace, "a predicted timeline, one row per SM, for Perfetto")                             \
    VERB(sweep, "predictions over a cross product of values")                                     \
    VERB(measure, "a description of the GPU of this machine, measured and fitted on it")           \
    VERB(calibrate, "fit a GPU description to measured times")                                    \
    VERB(selftest, "does the judge notice what it must? Faults planted in a backend, and who saw them")\
    VERB(golden, "list, verify, regenerate or export golden outputs")                             \
    VERB(list, "backends, cases, model families")
/* clang-format on */

/* argv[0] is the verb; returns an exit code. */
#define CLI_VERB_DECLARED(name, brief) int cli_##name(int argc, char **argv);
CLI_VERBS(CLI_VERB_DECLARED)

#endif
