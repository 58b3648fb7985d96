/* A timing over ranks: the time that a node should take, and what each rank took. */
#ifndef MOE_CLI_REPORT_BENCH_RANKS_H
#define MOE_CLI_REPORT_BENCH_RANKS_H

#include "moeref/bench.h"
#include "moeref/ep.h"

#include <jansson.h>
#include <stdio.h>

typedef struct cli_node_model {
    const char *node;   /* NULL: none */
    const char *method; /* NULL: ep_serial */
} cli_node_model;

/* -1, or an exit code after a sentence. */
int cli_node_model_check(const cli_node_model *m);
/* Puts the node's prediction and floor beside the passes' times. T over the ranks is each one's. */
moe_status cli_bench_by_node(const cli_node_model *m, const moe_problem *problem,
                             const moe_ep_params *ep, moe_bench_result *r);

/* Of the last timed run on a backend that moe_ep_open made, over its ranks in this process: whole
 * passes, and exchanges alone. */
void cli_bench_ranks_text(FILE *to, const moe_backend *backend, const moe_problem *problem);
/* {"forward": {"pass_us": RANGE, "exchange_us": RANGE}, "backward": ...}. */
json_t *cli_bench_ranks_json(const moe_backend *backend, const moe_problem *problem);

#endif
