/* Reports of the benchmark, shared by `bench` and `validate`. */
#ifndef MOE_CLI_REPORT_BENCH_H
#define MOE_CLI_REPORT_BENCH_H

#include "moeref/bench.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

void cli_bench_text(FILE *to, const moe_problem *problem, const char *backend,
                    const moe_bench_result *result);
/* One case's object: {"case", "backend", "passes", "kernels", "roofline", "memory", "board"}. */
json_t *cli_bench_json(const moe_problem *problem, const char *backend,
                       const moe_bench_result *result);
/* One line per pass and kernel, after a header line. */
void cli_bench_csv_header(FILE *to);
void cli_bench_csv(FILE *to, const moe_problem *problem, const char *backend,
                   const moe_bench_result *result);

/* What a measured time says beside a predicted one and the least there can be, microseconds: "on
 * model" within a tenth, "slow", "faster than the model", or, below the least by more than timers
 * err, "impossible ...". */
const char *cli_time_verdict(double measured, double predicted, double least);
bool cli_time_impossible(double measured, double least);

/* True, after a sentence to stderr, when a pass or a kernel took less than it can. */
bool cli_bench_impossible(const moe_problem *problem, const moe_bench_result *result);

/* Options of a timing that verbs share. `gpu` is a name or file of a GPU description, or NULL. */
typedef struct cli_timing {
    int64_t repeats;
    int64_t settle_ms; /* untimed runs first */
    bool cold_cache;
    const char *gpu, *method;
} cli_timing;

#define CLI_TIMING_OPTIONS(t)                                                                      \
    {"repeat", CLI_INT, &(t).repeats, "N", "timed runs after one untimed (default 7)"},            \
        {"gpu", CLI_STRING, &(t).gpu, "NAME|FILE",                                                 \
         "predict with the GPU cost model of this device instead of a measured roofline"},         \
    {                                                                                              \
        "method", CLI_STRING, &(t).method, "NAME",                                                 \
            "with --gpu: the model's method (default: moeref)"                                     \
    }

/* -1, or an exit code after a sentence: found before hours of timing, not after them. */
int cli_timing_check(const cli_timing *timing);

/* Times one problem with a progress line. */
moe_status cli_bench_time(moe_backend *backend, const moe_problem *problem,
                          const cli_timing *timing, moe_bench_result *ret);

#endif
