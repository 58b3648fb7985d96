/* moeref measure: from an unknown GPU to a description that was fitted on it. */
#include "cli/input/messages.h"
#include "cli/input/options.h"
#include "cli/verbs/verbs.h"
#include "core/file.h"
#include "moeref/home.h"

#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What products tell of a GPU; all else is measured by itself, or follows from its architecture.
 * L2's rate by plain loads is less than copies with multicast get, and is where the search starts.
 */
#define FREE                                                                                       \
    "tensor_eff,hbm_eff,inflight_kib,overlap_p,kernel_us,tile_us,epilogue_bw,splitk_us,l2_bw"
#define EVALUATIONS "1000" /* of nine numbers that start from another GPU's */

extern char **environ;

typedef struct measure_options {
    const char *to, *program, *source;
    bool no_fit;
} measure_options;

/* The program is one of its own, for it needs the vendor's libraries. It says itself what fails. */
static moe_status start(const char *program, const char *folder) {
    char *const argv[] = {(char *)program, (char *)folder, NULL};
    pid_t child;
    int ended = 0;
    fflush(stdout);
    const int error = posix_spawn(&child, program, NULL, NULL, argv, environ);
    if (error)
        return moe_fail(cli_log(), MOE_E_IO, "%s cannot be started: %s", program, strerror(error));
    while (waitpid(child, &ended, 0) < 0) {
        if (errno != EINTR)
            return moe_fail(cli_log(), MOE_E_IO, "%s cannot be waited for", program);
    }
    if (WIFEXITED(ended) && WEXITSTATUS(ended) == 0)
        return MOE_OK;
    return moe_fail(cli_log(), MOE_E_IO, "%s measured nothing (%s %d)", program,
                    WIFEXITED(ended) ? "exit code" : "signal",
                    WIFEXITED(ended) ? WEXITSTATUS(ended) : WTERMSIG(ended));
}

/* What the user could have called by hand, printed before it runs. */
static int calibrate(const measure_options *o, const char *gpu, const char *table,
                     const char *clock, const char *keys) {
    char from[PATH_MAX + 16], to[PATH_MAX + 16], start[PATH_MAX + 16];
    snprintf(start, sizeof start, "%s/%s", o->to, gpu);
    snprintf(from, sizeof from, "%s/%s", o->to, table);
    snprintf(to, sizeof to, "%s/fitted.json", o->to);
    const char *source = o->source ? o->source : "moeref measure";
    /* clang-format off */
    const char *const words[] = {"calibrate", "--gpu", start, "--from", from, "--to", to,
                                 "--clock", clock, "--free", keys,
                                 "--evaluations", EVALUATIONS, "--source", source};
    /* clang-format on */
    enum { COUNT = sizeof words / sizeof *words };
    char *argv[COUNT + 1] = {NULL};
    for (int i = 0; i < COUNT; i++)
        argv[i] = (char *)words[i];
    printf("moeref calibrate --gpu %s --from %s --to %s --clock %s \\\n"
           "    --evaluations %s --free %s --source '%s'\n",
           start, from, to, clock, EVALUATIONS, keys, source);
    return cli_calibrate(COUNT, argv);
}

/* A GPU's clock falls under a load that lasts, by a number that only such a load tells. */
static int fit(const measure_options *o) {
    char settled[PATH_MAX + 16];
    snprintf(settled, sizeof settled, "%s/settled.tsv", o->to);
    printf("measured: gpu.json, micro.tsv, gemm.tsv, settled.tsv in %s\n", o->to);
    const int code = calibrate(o, "gpu.json", "gemm.tsv", "burst", FREE);
    if (code != CLI_PASSED || access(settled, R_OK) != 0)
        return code;
    return calibrate(o, "fitted.json", "settled.tsv", "settled", "throttle");
}

static int run(const measure_options *o) {
    char program[PATH_MAX];
    if (!o->to || strlen(o->to) >= PATH_MAX)
        return cli_usage("measure needs --to FOLDER");
    if (o->source && o->no_fit)
        return cli_usage("--source goes into fitted.json, which --no-fit leaves out");
    moe_status status =
        moe_home_find(MOE_HOME_MEASURE, o->program, cli_log(), program, sizeof program);
    if (!status)
        status = moe_int_folder_make(o->to, cli_log());
    if (!status)
        status = start(program, o->to);
    if (status)
        return status == MOE_E_NOTFOUND ? CLI_NOT_RUN : cli_exit_code(status);
    const int code = o->no_fit ? CLI_PASSED : fit(o);
    if (code == CLI_PASSED)
        printf("predict with --gpu %s/%s\n", o->to, o->no_fit ? "gpu.json" : "fitted.json");
    return code;
}

int cli_measure(int argc, char **argv) {
    measure_options o = {0};
    const cli_option options[] = {
        {"to", CLI_STRING, &o.to, "FOLDER",
         "gpu.json (a description), gemm.tsv (products of cuBLAS), settled.tsv (large ones without "
         "a pause), micro.tsv (what was seen) and fitted.json (the description fitted to them); it "
         "is made if need be"},
        {"no-fit", CLI_FLAG, &o.no_fit, NULL, "measure alone"},
        {"source", CLI_STRING, &o.source, "TEXT", "where this was measured, for fitted.json"},
        {"program", CLI_STRING, &o.program, "FILE",
         "what measures (default: $MOEREF_MEASURE, or moeref-measure beside the library)"},
        {0}};
    int code =
        cli_parse(argc, argv,
                  "Measures the first CUDA device, in less than a minute, and fits a "
                  "description to it. What\nmeasures is a program of its own, moeref-measure, "
                  "that a build with -Dcuda=enabled has.",
                  options, NULL, NULL);
    return code < 0 ? run(&o) : code;
}
