/* Reports of the benchmark, shared by `bench` and `validate`. */
#ifndef MOE_CLI_BENCH_REPORT_H
#define MOE_CLI_BENCH_REPORT_H

#include "moeref/bench.h"

#include <jansson.h>
#include <stdio.h>

void cli_bench_text(FILE *to, const moe_problem *problem, const char *backend,
                    const moe_bench_result *result);
/* One case's object: {"case", "backend", "passes", "kernels", "roofline", "memory"}. */
json_t *cli_bench_json(const moe_problem *problem, const char *backend,
                       const moe_bench_result *result);
/* One line per pass and kernel, after a header line. */
void cli_bench_csv_header(FILE *to);
void cli_bench_csv(FILE *to, const moe_problem *problem, const char *backend,
                   const moe_bench_result *result);

/* Times one problem with a progress line. */
moe_status cli_bench_time(moe_backend *backend, const moe_problem *problem, int64_t repeats,
                          bool cold_cache, moe_bench_result *ret);

#endif
