/* The verbs of the command line, one file each. */
#ifndef MOE_CLI_VERBS_VERBS_H
#define MOE_CLI_VERBS_VERBS_H

/* A verb of the command line. */
typedef struct cli_verb {
    const char *name;
    const char *brief;
    int (*run)(int argc, char **argv); /* argv[0] is the verb; returns an exit code */
} cli_verb;

int cli_check(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_validate(int argc, char **argv);
int cli_golden(int argc, char **argv);
int cli_list(int argc, char **argv);
int cli_predict(int argc, char **argv);
int cli_trace(int argc, char **argv);
int cli_sweep(int argc, char **argv);
int cli_calibrate(int argc, char **argv);

#endif
