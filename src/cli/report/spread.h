/* Predictions of spread layers as text and JSON. */
#ifndef MOE_CLI_REPORT_SPREAD_H
#define MOE_CLI_REPORT_SPREAD_H

#include "cli/input/spread.h"

#include <stdio.h>

/* Who was asked what. Nothing is owned. */
typedef struct cli_spread_asked {
    const char *line;
    const moe_node *node;
    const moe_gpu *gpu;
    const moe_ep_options *options;
} cli_spread_asked;

void cli_spread_text(FILE *to, const cli_spread_asked *what, const moe_ep_prediction *p);
void cli_spread_json(FILE *to, const cli_spread_asked *what, const moe_ep_prediction *p);

/* The timeline as Chrome trace JSON: a row for the SMs, for those that send, and for each direction
 * of the links. */
moe_status cli_spread_trace(const char *path, const moe_ep_prediction *p);

#endif
