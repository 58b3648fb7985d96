/* The part of moeref predict that asks about several GPUs. */
#ifndef MOE_CLI_VERBS_PREDICT_SPREAD_H
#define MOE_CLI_VERBS_PREDICT_SPREAD_H

#include "cli/input/spread.h"

#include <stdio.h>

/* Who answers lines. Of the command line, but node, GPU and state. node: NULL until one is asked
 * for. */
typedef struct cli_spread_job {
    const cli_strings *methods; /* "all": each of them; empty: moeref_ep */
    bool json;
    bool *failed; /* set, by any thread, where one of all cannot: a record, and others go on */
    moe_node *node;
    moe_gpu *gpu;
    moe_workload state;
} cli_spread_job;

moe_status cli_spread_job_open(cli_spread_job *job, const cli_spread_options *s,
                               const cli_model_options *m);
void cli_spread_job_close(cli_spread_job *job);

/* A line by every method, spread as *s says. */
moe_status cli_spread_job_line(cli_spread_job *job, const cli_spread_options *s, const char *line,
                               const moe_log *log, FILE *to);

/* The timeline of a line. */
moe_status cli_trace_spread(const cli_spread_options *s, const cli_model_options *m,
                            const char *line, const char *method, const char *path);

#endif
